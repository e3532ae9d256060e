"""How the embeddings of a CLIP lie, and what they are made of."""
