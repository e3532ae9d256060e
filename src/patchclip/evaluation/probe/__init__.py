"""Linear classifiers on embeddings: the fits behind the linear probe."""
