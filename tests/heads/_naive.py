"""The definition of PACL's compatibility, pair by pair, and what re-implementations compute instead."""

import torch
import torch.nn.functional as F
from torch import Tensor


def naive(patches: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """phi [b, n] with every weight and every pooled vector written out."""
    cosines = F.cosine_similarity(patches[:, None], texts[None, :, None], dim=-1)  # b n l
    pooled = torch.einsum("bnl,ble->bne", (cosines / temperature).softmax(dim=-1), patches)
    return F.cosine_similarity(pooled, texts[None], dim=-1)


def own_text(patches: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Image i pooled with text i alone, then compared with all texts: the answer is in the question."""
    cosines = F.cosine_similarity(patches, texts[:, None], dim=-1)  # b l
    pooled = torch.einsum("bl,ble->be", (cosines / temperature).softmax(dim=-1), patches)
    return F.normalize(pooled, dim=-1) @ F.normalize(texts, dim=-1).T


def pairs(
    b: int, patches: int, n: int, e: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Random patches [b, patches, e] and texts [n, e] with gradients."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(b, patches, e, generator=generator, dtype=torch.float64)
    texts = torch.randn(n, e, generator=generator, dtype=torch.float64)
    return images.to(dtype).requires_grad_(), texts.to(dtype).requires_grad_()
