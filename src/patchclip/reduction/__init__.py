"""Which tokens of a caption are read in training: one file a method, found by its name."""
