"""Which patches are seen: one file a strategy. The file name is `masking.name`; `_x.py` is a shared part."""
