"""Gradient clipping and norm strategies: one file each. The file name is `stability.clip`."""
