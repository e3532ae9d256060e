"""What is asked of a model: one file a suite, found by its file name (`patchclip eval --suite retrieval`)."""
