"""A trained CLIP adapted to few labelled images."""
