"""Patches and texts in one space: how features are read, windows, label maps and what is made of them."""
