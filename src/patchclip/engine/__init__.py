"""Training: one loop (`train.py`) and the parts it is made of."""
