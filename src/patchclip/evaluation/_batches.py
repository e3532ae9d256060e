"""How many images fit a forward pass: the largest power of two within half of the memory that is free."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from patchclip.contracts import Encoder

TEXTS = 256
"""Texts a forward pass; short and small, so that memory is no question."""

MOST = {"cuda": 1024, "mps": 256, "cpu": 64}
"""Images a forward pass beyond which nothing is gained."""

PROBED = 4
ALIVE = 6
"""Outputs of the size of the largest that a block holds at once, on the safe side."""


def found(encoder: Encoder) -> int:
    """Images a forward pass of the encoder, in [1, 1024].

    One forward of a few grey images tells what an image takes; half of what is free is used. The answer
    depends on the machine alone, not on timings, so that a repeated evaluation forms the same batches.
    """
    kind = encoder.device.type
    most = MOST.get(kind, MOST["cpu"])
    model = getattr(encoder, "model", None)
    side = getattr(encoder, "image_size", None)
    if not isinstance(model, nn.Module) or side is None:
        return most
    each = bytes_an_image(encoder, model, int(side))
    return fitting(free_memory(encoder.device) // 2, each, most)


def fitting(memory: int, each: int, most: int) -> int:
    """The largest power of two, at least 1 and at most `most`, of items of `each` bytes in `memory` bytes."""
    count = min(most, max(1, memory // max(1, each)))
    return int(1 << (int(count).bit_length() - 1))


def bytes_an_image(encoder: Encoder, model: nn.Module, side: int) -> int:
    """Bytes that one more image takes during a forward pass: measured on CUDA, estimated elsewhere."""
    pixels = torch.zeros(PROBED, 3, side, side, device=encoder.device)
    if encoder.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(encoder.device)
        before = torch.cuda.memory_allocated(encoder.device)
        with torch.inference_mode():
            encoder.encode_image(pixels)
        return (torch.cuda.max_memory_allocated(encoder.device) - before) // PROBED + 1
    return ALIVE * _largest_output(encoder, model, pixels[:1])


def _largest_output(encoder: Encoder, model: nn.Module, pixels: torch.Tensor) -> int:
    largest = pixels.nbytes

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.nbytes)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.inference_mode():
            encoder.encode_image(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return largest


def free_memory(device: torch.device) -> int:
    """Bytes that can be taken: of the GPU, or of the machine and the container this process runs in."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = _number(Path("/proc/meminfo"), "MemAvailable:")
    if available is not None:
        free = available * 1024
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else max(0, min(free, limit - used))


def _number(path: Path, word: str = "") -> int | None:
    """The number behind a word of a file, or the file's only number; None where there is none."""
    try:
        words = path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        return None
    place = words.index(word) + 1 if word in words else 0
    return int(words[place]) if place < len(words) and words[place].isdigit() else None
