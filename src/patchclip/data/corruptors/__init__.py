"""Ways to make a caption false or no language: one file each, found by its name."""
