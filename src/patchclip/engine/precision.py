"""In what numbers a run computes, and with which attention kernels."""

import contextlib
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from patchclip.config import TrainConfig
from patchclip.models.towers import PRECISIONS


def autocast(
    config: TrainConfig, device: torch.device
) -> Callable[[], contextlib.AbstractContextManager[object]]:
    """Makes the context of `train.precision`."""
    kind = PRECISIONS[choose_precision(config.train.precision, device)]
    return lambda: torch.autocast(device.type, dtype=kind, enabled=kind != torch.float32)


def kernels(
    config: TrainConfig, device: torch.device
) -> Callable[[], contextlib.AbstractContextManager[object]]:
    """Makes the context that chooses attention kernels.

    On CPUs, bf16 attention runs as plain matrix products: the fused kernel's backward is several times slower
    there for the short sequences that masking leaves (benchmarks/attention.py).
    """
    if device.type == "cpu" and choose_precision(config.train.precision, device) == "bf16":
        return lambda: sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext


def choose_precision(precision: str, device: torch.device) -> str:
    """ "auto" as bf16 where the device computes in it natively, else fp32; any other as it is."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return "bf16" if native and torch.cpu._is_avx512_bf16_supported() else "fp32"
