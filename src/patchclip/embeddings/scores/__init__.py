"""Scores of an image with its text: one file each, found by its name."""
