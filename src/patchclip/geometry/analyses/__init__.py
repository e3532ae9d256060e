"""What is measured on the embeddings of pairs: one file each, found by its name."""
