"""What each method of the catalogue does to a small CLIP on real pairs: one experiment a file.

An experiment is a module with TITLE, PAGE (under docs/), MEASURES (name -> `Measure`), and two functions:
`run(setting)` gives each measure without the method and with it, `cost(setting)` the seconds of the same work
without it and with it. `benchmarks/catalogue.py` runs them all.
"""
