"""AdamW with open_clip's weight-decay groups, warm-up and cosine decay."""

import math

import torch
from torch import nn

NO_DECAY = ("bn", "ln", "bias", "logit_scale")
"""open_clip's rule: no weight decay on vectors, scalars and parameters whose name holds one of these."""


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies to a parameter (the rule of open_clip_train)."""
    return parameter.ndim >= 2 and not any(part in name for part in NO_DECAY)


def adamw(
    model: nn.Module, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW in two groups: parameters that decay and parameters that do not.

    Fused, so that `optimizer.found_inf` skips a bad update on the device, without a host sync.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in trained if not decays(name, p)], "weight_decay": 0.0},
        {"params": [p for name, p in trained if decays(name, p)], "weight_decay": weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


def lr_at(step: int, total: int, peak: float, warmup: int, lowest: float = 0.0) -> float:
    """Learning rate of step `step` in 0 .. total - 1: linear warm-up to `peak`, then a cosine to `lowest`.

    As open_clip's `cosine_lr`: peak * (step + 1) / warmup, then
    lowest + (peak - lowest) * (1 + cos(pi * (step - warmup) / (total - warmup))) / 2.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return lowest + (peak - lowest) * (1 + math.cos(math.pi * done)) / 2


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
