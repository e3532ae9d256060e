"""Where pairs and benchmarks come in: sources, their order, transforms, captions, evaluation sets."""
