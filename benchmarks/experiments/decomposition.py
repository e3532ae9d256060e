"""Does the sum of all parts give the image embedding, and which parts matter? Embeddings of zs_clipart are
taken apart, and parts are replaced by their mean over the images; zero-shot classification is asked before
(without) and after (with). `error` compares images encoded alone and in one batch (without) with the sum of
their parts (with): rounding is all that there should be. `share` is the part of the embeddings' variance that
comes from the attention of all earlier layers (without) and of the last four (with).
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments._frame import Measure, Setting, interleaved

TITLE = "Decomposition of the image embedding"
PAGE = "geometry/decomposition.md"
LAST, MILLION, SOME = 4, 1e6, 16
MEASURES = {
    "error": Measure("largest error, millionths of an embedding's length", "", digits=2),
    "share": Measure("share of the variance, attention of early and of the last four layers", ""),
    "mlps": Measure("zero-shot top-1, all MLPs replaced by their means"),
    "early": Measure("zero-shot top-1, attention of all but the last four layers replaced"),
}


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    encoder, pixels, labels, classes = _material(setting.base, setting.quick)
    parts = _taken_apart(encoder, pixels)
    whole = parts.total()
    some = pixels[:SOME]
    together, alone = encoder.encode_image(some), torch.cat([*map(encoder.encode_image, some.split(1))])
    length = together.norm(dim=1).mean()
    layers = parts.attention.shape[1]
    shares = [_share(each, whole) for each in parts.attention.sum(dim=(2, 3)).unbind(1)]
    early = range(layers - LAST)

    def right(rows: Tensor) -> float:
        found = F.normalize(rows, dim=1) @ classes.T
        return float((found.argmax(dim=1) == labels).float().mean())

    return {
        "error": (
            MILLION * float((alone - together).abs().max() / length),
            MILLION * float((whole[:SOME] - together).abs().max() / length),
        ),
        "share": (sum(shares[:-LAST]), sum(shares[-LAST:])),
        "mlps": (right(whole), right(parts.ablated(mlps=range(layers)))),
        "early": (right(whole), right(parts.ablated(layers=early))),
    }


def cost(setting: Setting) -> tuple[float, float]:
    """16 images encoded, and taken apart by layer, head and token."""
    from patchclip.geometry.explanations.decomposition import Decomposition

    encoder, pixels, _, _ = _material(setting.base, setting.quick)
    some, tower = pixels[: 2 if setting.quick else SOME], encoder.tower()

    @torch.no_grad()
    def apart() -> Any:
        return Decomposition()(tower, some)

    return interleaved(lambda: encoder.encode_image(some), apart, 1 if setting.quick else 3)


@lru_cache(maxsize=1)
def _material(base: Path, quick: bool) -> tuple[Any, Tensor, Tensor, Tensor]:
    """The encoder of raw embeddings, pixels and labels of zs_clipart, and its class embeddings."""
    from patchclip import load
    from patchclip.data.benchmarks import open_sets
    from patchclip.evaluation.embedder import Embedder

    encoder: Any = load(base, device="cpu")
    found: Any = open_sets("samples", ["zs_clipart"])[0]
    rows = range(0, len(found), 8 if quick else 1)
    pixels = torch.stack([encoder.preprocess(found.images[i]) for i in rows])
    labels = torch.tensor([int(found.labels[i]) for i in rows])
    return encoder.raw(), pixels, labels, Embedder(encoder).classes(found)


@torch.no_grad()
def _taken_apart(encoder: Any, pixels: Tensor) -> Any:
    """Parts by layer and head."""
    from patchclip.geometry.explanations.decomposition import Decomposition

    return Decomposition(tokens=False)(encoder.tower(), pixels)


def _share(part: Tensor, whole: Tensor) -> float:
    """Covariance with the embeddings over their variance: all parts sum to 1."""
    part, whole = part - part.mean(dim=0), whole - whole.mean(dim=0)
    return float((part * whole).sum() / whole.square().sum())
