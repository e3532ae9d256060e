"""Tensors on disk."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes a safetensors file that others may read as any new file of this user: by the umask.

    safetensors itself makes files that nobody else can read, whatever the umask.

    Args:
        tensors: on the CPU, contiguous, without shared memory.
        path: of the file; replaced if it is there.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("wb"):
        mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata={"format": "pt"})
    os.chmod(path, mode & 0o777)
