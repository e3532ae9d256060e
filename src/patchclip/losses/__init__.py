"""Contrastive objectives on unit-length embeddings: one file each. The file name is `loss.name`."""
