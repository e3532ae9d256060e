"""Evaluation suites: one file a suite, `_runner.py` to run them, `_metrics.py` for the pure functions."""
