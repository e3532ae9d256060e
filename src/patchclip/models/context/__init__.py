"""Ways to read captions longer than a text tower's context: one file each, found by its name."""
