"""Which training images each seed learns from."""

import math
import random
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from PIL import Image, ImageOps
from torch import Tensor

from patchclip.data.sets import Classification
from patchclip.engine.adapting.settings import Settings
from patchclip.errors import DataError
from patchclip.evaluation.embedder import Embedder
from patchclip.evaluation.probe.examples import Examples, draw_shots, hold_out, scarcest
from patchclip.evaluation.probe.outcome import Splits, embed_splits

AREA = (0.5, 1.0)
ASPECT = (3 / 4, 4 / 3)
TRIES = 10


@dataclass(frozen=True)
class Source:
    """An embedded set and its train split.

    Attributes:
        splits: embeddings of all splits.
        train: the train split itself.
        numbers: of the train images behind the embeddings.
        base: classes that are learned from, the first of all.
    """

    splits: Splits
    train: Classification
    numbers: Int64[Tensor, " n"]
    base: int


@dataclass(frozen=True)
class Draw:
    """What one seed learns from.

    Attributes:
        train: embeddings and labels, of every view.
        validation: to choose settings on, None where no image is left for that.
        numbers: of the images in the train split, for methods that read these themselves.
        labels: of these.
    """

    train: Examples
    validation: Examples | None
    numbers: tuple[int, ...]
    labels: Int64[Tensor, " n"]


@dataclass(frozen=True)
class Crop:
    """One random crop of an image, mirrored or not, made square: an embedder's view.

    Source: the released code of Wang et al., arXiv 2402.04087: half to all of the area, sides of 3:4 to 4:3.

    Args:
        number: of the view; each has its own randomness.
    """

    number: int

    @property
    def name(self) -> str:
        """Names the view and its settings."""
        return f"crop-half:{self.number}:1"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """The crop of image `index` of its set."""
        rng = random.Random(f"{self.number}:{index}")
        width, height = image.size
        across, down = width, height
        for _ in range(TRIES):
            area, aspect = rng.uniform(*AREA) * width * height, math.exp(rng.uniform(*map(math.log, ASPECT)))
            tried = (round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect)))
            if 0 < tried[0] <= width and 0 < tried[1] <= height:
                across, down = tried
                break
        left, top = rng.randint(0, width - across), rng.randint(0, height - down)
        side = max(across, down)
        box = (left, top, left + across, top + down)
        found = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
        return ImageOps.mirror(found) if rng.random() < 0.5 else found


def open_source(embedder: Embedder, benchmark: Classification, settings: Settings) -> Source:
    """The set with what can be learned from; all checks on the data are here.

    Raises:
        DataError: no train split, fewer than two classes to learn, a class of these without training images,
            or with fewer than the shots.
    """
    name, names = benchmark.name, benchmark.classnames
    base = math.ceil(len(names) * (1 - settings.new_classes))
    if base < 2 or (settings.new_classes and base == len(names)):
        raise DataError(
            f"{name}: {len(names)} classes with new_classes={settings.new_classes} leave {base} to learn and "
            f"{len(names) - base} new ones: at least two to learn, and one new if any, are needed"
        )
    splits, train = embed_splits(embedder, benchmark), benchmark.split("train")
    if splits is None or train is None:
        raise DataError(
            f"{name} has no train split: an adaptation needs {name}/train beside {name}/test; shipped sets "
            "with one are zs_clipart and zs_furniture"
        )
    labels = splits.train.labels.cpu()
    absent = sorted(set(range(base)) - set(labels.tolist()))
    if absent:
        raise DataError(
            f"{splits.train.name}: class {names[absent[0]]!r} ({len(absent)} in all) has no training image: "
            "add some; a share of the last classes goes without with --new-classes"
        )
    label, images = scarcest(labels[labels < base])
    if images < settings.shots:
        raise DataError(
            f"{splits.train.name}: shots={settings.shots}, but class {names[label]!r} has {images} training "
            f"images: ask for {images} at most, or for 0, which takes all images"
        )
    numbers = embedder.images(train.images, splits.train.name).indices
    return Source(splits, train, numbers, base)


def draw(embedder: Embedder, source: Source, settings: Settings, seed: int, *, chooses: bool = True) -> Draw:
    """The images of one seed: k of each class and others to choose settings on, or all images.

    Settings are chosen on the val split where the set has one; else on up to min(k, 4) other training images
    of each class, or on a tenth of each where all images are taken.

    Args:
        embedder: of the model.
        source: the set.
        settings: shots and views.
        seed: of the draw.
        chooses: whether the method chooses settings. If not, `numbers` and `labels` keep that tenth, which
            only a probe of `train` and `validation` does without.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = source.splits.train.labels.cpu()
    places = (labels < source.base).nonzero()[:, 0]
    pool = Examples(source.splits.train.name, places[:, None].double(), labels[places])
    validation = source.splits.validation
    if validation is not None:
        validation = validation.rows((validation.labels < source.base).nonzero()[:, 0])
    others: Examples | None = None
    if settings.shots:
        chosen, others = draw_shots(pool, settings.shots, generator)
    else:
        held = hold_out(pool, generator) if validation is None else None
        chosen, others = (pool, None) if held is None else held
    if validation is None and others is not None:
        validation = source.splits.train.rows(others.features[:, 0].long())
    rows = chosen.features[:, 0].long()
    read = rows if chooses or settings.shots else places
    numbers = tuple(source.numbers[read].tolist())
    train = source.splits.train.rows(rows)
    if settings.views:
        train = _views(embedder, source, train, numbers, settings.views)
    return Draw(
        train, validation if validation is not None and len(validation) else None, numbers, labels[read]
    )


def _views(
    embedder: Embedder, source: Source, train: Examples, numbers: tuple[int, ...], views: int
) -> Examples:
    """Embeddings of crops of the images, view after view."""
    images, features, labels = source.train.images, [], []
    for number in range(views):
        found = embedder.images(images, train.name, Crop(number), only=numbers)
        place = torch.searchsorted(torch.tensor(numbers), found.indices)
        features.append(found.embeddings.to(train.features))
        labels.append(train.labels[place.to(train.labels.device)])
    return Examples(train.name, torch.cat(features), torch.cat(labels))
