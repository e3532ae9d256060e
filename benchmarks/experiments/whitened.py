"""Does the likelihood of whitened embeddings tell natural captions and clean pictures from damaged ones? The
reference is 600 training pairs, raw embeddings. Without: minus the squared distance to the mean of the
reference, the same density without whitening. With: the log-likelihood after whitening. Captions: area under
the curve of held-out captions against the same with their words in random order. Pictures: 60 held-out ones
in four states each, from clean to the strongest blur (and to the strongest noise); the share of the steps at
which the score falls, 0.5 being chance.
"""

import random
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image, ImageFilter
from torch import Tensor

from experiments._frame import Measure, Setting, interleaved
from experiments._raw_rows import RawRows, raw_rows

TITLE = "Whitened CLIP"
PAGE = "geometry/whitened.md"
MEASURES = {
    "captions": Measure("AUC of natural captions against shuffled words"),
    "blur": Measure("share of steps to more blur at which the score falls"),
    "noise": Measure("share of steps to more noise at which the score falls"),
}
PICTURES, LEVELS = 60, (1, 2, 3)
SIDE = 112


def auc(high: Tensor, low: Tensor) -> float:
    """Chance that a score of `high` is above one of `low`, equal ones counting half."""
    apart = high[:, None] - low[None]
    return float((apart > 0).double().mean() + 0.5 * (apart == 0).double().mean())


def shuffled(caption: str, rng: random.Random) -> str:
    """The words in another order, where there is one."""
    words = caption.split()
    for _ in range(10):
        rng.shuffle(words)
        if " ".join(words) != caption:
            break
    return " ".join(words)


def blurred(picture: Image.Image, level: int, generator: torch.Generator) -> Image.Image:
    """A Gaussian blur of 1, 2, 4 pixels at the model's size."""
    return picture.filter(ImageFilter.GaussianBlur(2 ** (level - 1)))


def noised(picture: Image.Image, level: int, generator: torch.Generator) -> Image.Image:
    """Normal noise of 0.08, 0.16, 0.32 of the range of a colour."""
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).float()
    noise = torch.randn(pixels.shape, generator=generator) * 255 * 0.04 * 2**level
    changed = (pixels + noise).round().clamp(0, 255).byte().numpy().tobytes()
    return Image.frombytes("RGB", picture.size, changed)


def scores(rows: RawRows, side: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The score without whitening and with it, of a modality."""
    from patchclip.embeddings.scores.likelihood import Likelihood

    mean = (rows.image if side == "image" else rows.text).double().mean(dim=0)
    whitened = Likelihood(side).fit(rows.image, rows.text)
    return lambda x: -(x.double() - mean).square().sum(-1), lambda x: whitened(x.double(), x.double())


@torch.no_grad()
def falls(setting: Setting, rows: RawRows, damage: Callable[..., Image.Image]) -> tuple[float, float]:
    """Share of the steps at which each score falls."""
    generator = setting.generator()
    pictures = [picture.convert("RGB").resize((SIDE, SIDE)) for picture in rows.pictures]
    pictures = pictures[: 8 if setting.quick else PICTURES]
    states: list[list[Any]] = [pictures]
    states += [[damage(picture, level, generator) for picture in pictures] for level in LEVELS]
    encode, preprocess = rows.encoder.encode_image, rows.encoder.preprocess
    embedded = [encode(torch.stack([preprocess(picture) for picture in state])) for state in states]
    plain, whitened = (
        torch.stack([score(state) for state in embedded]).diff(dim=0).lt(0).double().mean()
        for score in scores(rows, "image")
    )
    return float(plain), float(whitened)


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """Each measure without and with whitening."""
    rows, rng = raw_rows(setting), random.Random(setting.seed)
    changed = [shuffled(caption, rng) for caption in rows.captions]
    kept = [i for i, caption in enumerate(rows.captions) if changed[i] != caption]
    false = rows.encoder.encode_text(rows.encoder.tokenizer([changed[i] for i in kept]))
    plain, whitened = (auc(score(rows.held_text[kept]), score(false)) for score in scores(rows, "text"))
    return {
        "captions": (plain, whitened),
        "blur": falls(setting, rows, blurred),
        "noise": falls(setting, rows, noised),
    }


def cost(setting: Setting) -> tuple[float, float]:
    """Scores of 20 000 rows of 192 numbers by their distance to the mean, and by whitening, fits included."""
    from patchclip.geometry.analyses.whitened import log_likelihoods

    drawn = torch.randn(500 if setting.quick else 20000, 192, generator=setting.generator())

    def plain() -> Tensor:
        wide = drawn.double()
        return -(wide - wide.mean(dim=0)).square().sum(dim=-1)

    return interleaved(plain, lambda: log_likelihoods(drawn), 1 if setting.quick else 3)
