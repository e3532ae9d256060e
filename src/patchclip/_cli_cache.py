"""Where the command line keeps embeddings between calls."""

import argparse
import os
from pathlib import Path


def cache_folder(arguments: argparse.Namespace) -> Path | None:
    """--cache, else PATCHCLIP_CACHE or the user's cache; None with --no-cache."""
    if arguments.no_cache:
        return None
    if arguments.cache:
        return Path(arguments.cache)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PATCHCLIP_CACHE") or Path(base) / "patchclip") / "embeddings"
