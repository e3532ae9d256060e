"""Linear maps, statistics and scores of embeddings: tensors in, tensors out."""
