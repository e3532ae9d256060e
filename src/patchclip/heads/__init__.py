"""Small modules that are trained on frozen towers: one file a head. The file name is `head.name`."""
