"""How much of what heads tell images apart by do five texts hold? For each head of the last four layers, over
the held-out pairs: the share of its variance along the directions of five of the captions' nouns that
TextSpan chooses (with), against five drawn at random (`random`, mean of ten draws) and against its five
principal directions, which no texts can beat (`principal`). `normalise`: TextSpan as released (without), and
by the direction of what remains of a text alone (with).
"""

from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from experiments._frame import Measure, Setting, held_out, interleaved

TITLE = "TextSpan"
PAGE = "geometry/textspan.md"
LAST, COUNT, DRAWS = 4, 5, 10
MEASURES = {
    "random": Measure("share of a head's variance along five texts, against random ones"),
    "principal": Measure("the same, against the five principal directions", ""),
    "normalise": Measure("the same, as released and with normalise=true", ""),
}


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    from patchclip.geometry.explanations.textspan import TextSpan

    heads, texts = _material(setting.base, setting.quick)
    generator = setting.generator()

    def explained(normalise: bool) -> float:
        search = TextSpan(count=COUNT, normalise=normalise)
        return mean(float(search(head, texts).energies.sum()) for head in heads)

    def by_chance(head: Tensor) -> float:
        draws = [torch.randperm(len(texts), generator=generator)[:COUNT] for _ in range(DRAWS)]
        return mean(float(TextSpan(count=COUNT)(head, texts[rows]).energies.sum()) for rows in draws)

    released = explained(False)
    return {
        "random": (mean(map(by_chance, heads)), released),
        "principal": (mean(map(_principal, heads)), released),
        "normalise": (released, explained(True)),
    }


def cost(setting: Setting) -> tuple[float, float]:
    """Principal directions of a head, and TextSpan on it."""
    from patchclip.geometry.explanations.textspan import TextSpan

    heads, texts = _material(setting.base, setting.quick)
    search, rounds = TextSpan(count=COUNT), 1 if setting.quick else 3
    return interleaved(lambda: _principal(heads[0]), lambda: search(heads[0], texts), rounds)


def _principal(head: Tensor) -> float:
    centred = head.double() - head.double().mean(dim=0)
    energies = torch.linalg.svdvals(centred).square()
    return float(energies[:COUNT].sum() / energies.sum())


@lru_cache(maxsize=1)
@torch.no_grad()
def _material(base: Path, quick: bool) -> tuple[tuple[Tensor, ...], Tensor]:
    """Outputs of the heads of the last layers, and embeddings of the captions' nouns."""
    from patchclip import load
    from patchclip.data.nouns import nouns
    from patchclip.geometry.explanations.decomposition import Decomposition

    encoder: Any = load(base, device="cpu")
    pictures, captions = held_out(24 if quick else None)
    pixels = torch.stack([encoder.preprocess(picture) for picture in pictures])
    parts = Decomposition(last=LAST, tokens=False)(encoder.tower(), pixels)
    words = sorted({noun for each in captions for caption in each for noun in nouns(caption)})
    return parts.by_head().flatten(1, 2).unbind(1), encoder.encode_text(encoder.tokenizer(words))
