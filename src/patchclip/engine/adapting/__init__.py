"""Adaptation of a CLIP to a set: few-shot draws, the method, figures beside zero-shot, and what is kept."""
