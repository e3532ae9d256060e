"""Ways to fit a linear map on embeddings: one file each, found by its name."""
