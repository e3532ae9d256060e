"""How patch features are read out of a tower: one file a method. The file name is `--method`."""
