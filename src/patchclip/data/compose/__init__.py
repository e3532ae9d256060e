"""Composes scenes of cut-out objects: exact masks, and captions that name the objects and the place."""
