"""PGS on shipped drawings: what is kept is the drawing, not the paper."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from patchclip.contracts import Masker
from patchclip.masking import pgs
from patchclip.masking.pgs import PGSMask
from patchclip.masking.random import RandomMask
from tests.masking._images import rng, tokens

SHARD = Path(pgs.__file__).parents[1] / "data" / "samples" / "train" / "pairs-000.tar"


def drawings(count: int, side: int) -> Tensor:
    """The first shipped drawings that stand on white and cover 10 to 40 % of it [count, 3, side, side]."""
    found: list[Tensor] = []
    with tarfile.open(SHARD) as shard:
        while len(found) < count:
            member = shard.next()
            assert member is not None, "the shard holds too few drawings"
            if not member.name.endswith(".webp"):
                continue
            picture = ImageOps.contain(
                Image.open(io.BytesIO(shard.extractfile(member).read())).convert("RGB"), (side, side)
            )
            page = ImageOps.pad(picture, (side, side), color="white")
            pixels = torch.from_numpy(np.array(page)).permute(2, 0, 1) / 255
            corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]]
            if corners.min() > 0.99 and 0.1 < ink(pixels[None]).mean() < 0.4:
                found.append(pixels)
    return torch.stack(found)


def ink(pixels: Tensor) -> Tensor:
    """1 where a pixel is not white [b, 1, h, w]."""
    return (pixels < 0.95).any(dim=1, keepdim=True).float()


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_drawings_keep_far_more_of_their_ink_than_by_chance(progress: float) -> None:
    pixels = drawings(32, 112)
    cover = torch.nn.functional.avg_pool2d(ink(pixels), 16).flatten(1)
    normal = (pixels - 0.45) / 0.27

    def retained(masker: Masker) -> float:
        shares = []
        for seed in (0, 1):
            keep = masker.select(normal, tokens(32, 49), progress, rng(seed))
            shares.append((cover.gather(1, keep).sum(dim=1) / cover.sum(dim=1)).mean())
        return float(torch.stack(shares).mean())

    by_chance = retained(RandomMask(0.5))
    assert by_chance == pytest.approx(24 / 49, abs=0.05)
    assert retained(PGSMask(0.5)) > by_chance + 0.25
