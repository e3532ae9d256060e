"""A model that sees colours: a patch is its mean colour, a text the colour it names; real pictures."""

import io
import json
import tarfile
from contextlib import nullcontext
from functools import cache
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from patchclip.dense.segmenter import Inference, Segmenter
from patchclip.models.towers import ClipEncoder

PATCH = 8
COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


def lifted(rgb: Tensor) -> Tensor:
    """Colours in [0, 1] [..., 3] as directions from the middle grey, with a constant so that none is zero."""
    return torch.cat([rgb - 0.5, torch.full_like(rgb[..., :1], 0.05)], dim=-1)


class Nothing:
    """A block that leaves tokens as they are."""

    heads = 1

    def __call__(self, tokens: Tensor) -> Tensor:
        return tokens


class Tower:
    """Tokens are mean colours of patches behind one prefix token; sizes of windows are noted."""

    prefix, head, patch = 1, None, PATCH
    normalisation = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    blocks = (Nothing(),)

    def __init__(self, step: int | None, seen: list[tuple[int, ...]]) -> None:
        self.step, self.seen = step or PATCH, seen

    def embed(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        self.seen.append(tuple(pixels.shape))
        colours = F.avg_pool2d(pixels, PATCH, self.step)
        tokens = colours.flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, :1], tokens], dim=1), (colours.shape[2], colours.shape[3])

    def norm(self, tokens: Tensor) -> Tensor:
        return tokens

    def finish(self, tokens: Tensor) -> Tensor:
        return lifted(tokens)


class ColourEncoder(ClipEncoder):
    """Texts hold the name of a colour; any other text is nothing but the constant."""

    name, precision, head, scale, image_size = "colours:test", "fp32", None, 20.0, 2 * PATCH
    device = torch.device("cpu")
    architecture: Any = SimpleNamespace(
        preprocess_cfg={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "nearest"}
    )

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.texts: list[str] = []

    def tokenizer(self, texts: list[str]) -> Tensor:
        self.texts += texts
        names = list(COLOURS)
        return torch.tensor([[next((i for i, n in enumerate(names) if n in t), -1)] for t in texts])

    def encode_text(self, tokens: Tensor) -> Tensor:
        rows = [lifted(torch.tensor(colour) / 255) for colour in COLOURS.values()]
        rows.append(torch.tensor([0.0, 0.0, 0.0, 1.0]))
        return F.normalize(torch.stack(rows), dim=-1)[tokens[:, 0]]

    def tower(self, step: int | None = None) -> Any:
        return Tower(step, self.seen)

    def autocast(self) -> Any:
        return nullcontext()


@cache
def scenes(count: int = 12) -> list[tuple[Image.Image, np.ndarray, dict[int, str]]]:
    """Composed scenes of the samples: picture, ids of the objects, their nouns."""
    path = files("patchclip.data") / "samples" / "test" / "scenes" / "test" / "0.tar"
    found = []
    with tarfile.open(str(path)) as tar:
        names = sorted(name[:-5] for name in tar.getnames() if name.endswith(".json"))
        for name in names[:: max(1, len(names) // count)][:count]:
            parts = [tar.extractfile(name + ending) for ending in (".webp", ".inst.png", ".json")]
            picture, ids, text = (io.BytesIO(part.read()) for part in parts if part is not None)
            nouns = {each["id"]: each["noun"] for each in json.load(text)["objects"]}
            found.append((Image.open(picture).convert("RGB"), np.array(Image.open(ids)), nouns))
    return found


def squares(rows: int, columns: int, side: int = PATCH, seed: int = 0) -> tuple[Image.Image, np.ndarray]:
    """A picture of coloured squares, and the number of each square's colour (1 is the first)."""
    numbers = np.random.default_rng(seed).integers(0, len(COLOURS), (rows, columns))
    pixels = np.array(list(COLOURS.values()), np.uint8)[numbers].repeat(side, 0).repeat(side, 1)
    return Image.fromarray(pixels), numbers + 1


WORDS = ["cat", "dog", "grass"]
RAW = Inference(method="raw", background="none", prompts="plain", short_side=48)


def photos(*sizes: tuple[int, int]) -> list[Image.Image]:
    """Real pictures, each in (width, height)."""
    return [scene[0].resize(size) for scene, size in zip(scenes(len(sizes)), sizes, strict=True)]


def scores(encoder: ClipEncoder, image: Image.Image, inference: Inference) -> Tensor:
    return Segmenter(encoder, WORDS, inference)([image])[0].scores
