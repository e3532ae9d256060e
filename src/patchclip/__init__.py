"""patchclip: making CLIP see patch by patch."""

__version__ = "0.1.0"
