"""Captions made long: a real one behind sentences that say nothing of the picture, or in front of them."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FILLER = (
    "this is one of the many pictures that somebody has put into a folder on an old disk",
    "the file was copied from one machine to the next and nobody has changed its name",
    "we do not know who has made it or when, only that it has been here for some years",
    "it can be used for any purpose and there is no need to ask somebody before that",
    "the page on which it stood has a title, a date, a list of links and a few more words",
    "what follows was written by a person who had a look at it and had no more than a minute",
)
"""Sentences of 15 words and more: together with their marks no less than a context of 16 tokens holds."""


def lengthened(captions: Sequence[str], seed: int, late: bool = True) -> list[str]:
    """Each caption behind a drawn sentence, or in front of it."""
    rng = random.Random(seed)
    drawn = [rng.choice(FILLER) for _ in captions]
    pairs = zip(drawn, captions, strict=True)
    return [f"{filler}. {text}" if late else f"{text}. {filler}" for filler, text in pairs]


def joined(count: int, seed: int) -> tuple[list[Any], list[str]]:
    """Pictures of shipped training pairs, drawn by a seed, and all captions of each, one behind the other."""
    from patchclip.data.pairs import open_pairs

    source = open_pairs("samples")
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed)).tolist()
    read = [source.read(number) for number in order[:count]]
    pairs = [pair for pair in read if getattr(pair, "captions", ())]
    return [pair.image.convert("RGB") for pair in pairs], [". ".join(pair.captions) for pair in pairs]


@torch.no_grad()
def embedded_texts(encoder: Any, texts: Sequence[str]) -> Tensor:
    """Unit-length embeddings of the texts."""
    return encoder.encode_text(encoder.tokenizer(list(texts)))


def recall(image: Tensor, text: Tensor, k: int = 5) -> float:
    """Share of images with their text, and of texts with their image, among the best k; the mean."""
    table = image @ text.T
    own = table.diagonal()
    ranks = [
        (each > own[:, None]).sum(1) + ((each == own[:, None]).sum(1) - 1) / 2 for each in (table, table.T)
    ]
    return float(torch.cat(ranks).lt(k).float().mean())
