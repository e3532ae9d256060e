"""Ways to adapt a trained CLIP: one file each, found by its name."""
