"""Raw embeddings of real pairs, which the experiments on geometry share: computed once for each base."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments._frame import Setting, embedded, held_out, training_pairs


@dataclass(frozen=True)
class RawRows:
    """Embeddings as the towers give them: `image`, `text` of training pairs, the others of held-out pairs."""

    encoder: Any
    image: Tensor
    text: Tensor
    held_image: Tensor
    held_text: Tensor
    pictures: tuple[Any, ...]
    captions: tuple[str, ...]


def raw_rows(setting: Setting) -> RawRows:
    """Of 600 training pairs, the same for every seed, and of all held-out pairs; 60 of each where quick."""
    return _rows(setting.base, 60 if setting.quick else 600, 60 if setting.quick else None)


@lru_cache(maxsize=1)
def _rows(base: Path, reference: int, count: int | None) -> RawRows:
    from patchclip.models.towers import load

    encoder = load(base).raw()
    pictures, captions = held_out(count)
    first = tuple(some[0] for some in captions)
    pairs = embedded(encoder, *training_pairs(reference, 0))
    return RawRows(encoder, *pairs, *embedded(encoder, pictures, first), pictures, first)


def recall(image: Tensor, text: Tensor, best: int = 5) -> Tensor:
    """Whether each image finds its text and each text its image among the best; the mean of both, by row."""
    unit = [torch.nn.functional.normalize(rows.double(), dim=-1) for rows in (image, text)]
    table = unit[0] @ unit[1].T
    own = table.diagonal()
    hits = [(each > own[:, None]).sum(dim=1) < best for each in (table, table.T)]
    return torch.stack(hits).double().mean(dim=0)
