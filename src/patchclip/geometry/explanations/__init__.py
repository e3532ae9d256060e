"""What an embedding is made of: one file each, found by its name."""
