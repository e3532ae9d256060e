"""Adaptation to captions: a linear map of the text embeddings, judged on pairs that were held out."""

import hashlib
import logging
import random
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from patchclip import spec
from patchclip.contracts import BadSample
from patchclip.data.benchmarks import load_benchmark, resolve
from patchclip.data.pairs import PairSource, open_pairs
from patchclip.data.sets import Retrieval
from patchclip.embeddings.linear_map import LinearMap
from patchclip.engine.adapting.result import Adaptation, Row
from patchclip.engine.adapting.settings import CAPTIONS, Settings
from patchclip.engine.extras import falsifier
from patchclip.errors import DataError
from patchclip.evaluation._metrics import COSINE_TIE, matched_ranks, share_within
from patchclip.evaluation.embedder import Embedder

logger = logging.getLogger(__name__)

HELD_OUT = 0.2
EQUAL = 1e-4
"""Distance of unit-length embeddings up to which two pictures are the same."""

BLOCK = 1024
MEASURES = ("true caption over false one", "caption finds its image", "image finds its caption")
PAIRS = "samples"
NAME = re.compile(r"[\w.+-]+(/[\w.+-]+)*")


class PairImages:
    """The images of a source of pairs, by number."""

    def __init__(self, source: PairSource) -> None:
        self._source = source

    @property
    def fingerprint(self) -> str:
        """Of the keys alone: embeddings of these images are not kept on disk."""
        keys = (self._source.key(i).encode("utf-8", "surrogatepass") for i in range(len(self)))
        return hashlib.sha256(b"\0".join(keys)).hexdigest()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Image.Image:
        """The RGB image. Raises DataError where it cannot be read."""
        found = self._source.read(index)
        if isinstance(found, BadSample):
            raise DataError(f"{found.key}: {found.reason}")
        if not isinstance(found.image, Image.Image):
            raise DataError(f"{found.key}: its image was encoded before; give the pairs themselves")
        return found.image.convert("RGB")


@dataclass(frozen=True)
class Captioned:
    """Embedded captions with a false caption of each, and the images that they belong to.

    Attributes:
        image: a row for each image.
        text, negative: a row for each caption.
        owner: row of each caption's image.
        without: captions for which there is no false one.
        repeats: images that are another one over again; their captions belong to the first of them.
        bad: images that could not be read.
    """

    image: Float[Tensor, "m e"]
    text: Float[Tensor, "n e"]
    negative: Float[Tensor, "n e"]
    owner: Int64[Tensor, " n"]
    without: int
    repeats: int = 0
    bad: tuple[BadSample, ...] = ()


def open_captioned(data: str, settings: Settings) -> Retrieval:
    """Captioned images: a set under the root, or else pairs as training takes them.

    Args:
        data: name of a set; or "samples", shards, a table or a folder, see `open_pairs`.
        settings: with the root.

    Raises:
        DataError: neither, or a set without captions.
    """
    plain = data != PAIRS and NAME.fullmatch(data) is not None
    names, missing = resolve(settings.data_root, [data]) if plain else ([], [])
    if names:
        found = load_benchmark(settings.data_root, names[0])
        if not isinstance(found, Retrieval):
            raise DataError(
                f"{data!r} has no captions: this method learns from captioned images, as samples (the pairs "
                "that ship with patchclip), retrieval_mixed, shards, or a table of them"
            )
        return found
    try:
        source = open_pairs(data)
    except DataError as error:
        raise DataError("; ".join([*(reason for _, reason in missing), str(error)])) from error
    return Retrieval(data, PairImages(source), [source.texts(i) for i in range(len(source))])


def embed_captioned(embedder: Embedder, found: Retrieval, settings: Settings) -> Captioned:
    """Embeds images, captions and the false captions that the corruptor makes of them.

    Raises:
        ConfigError: an unknown corruptor.
        DataError: no caption with a false one.
    """
    corruptor = falsifier(settings.negatives, "--negatives ")
    numbers = torch.arange(len(found))
    if settings.pairs:
        drawn = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
        numbers = drawn[: settings.pairs].sort().values
    encoded = embedder.images(found.images, found.name, only=numbers.tolist())
    firsts = first_of_equals(encoded.embeddings)
    owners, true, false, without = [], [], [], 0
    for row, number in zip(firsts.tolist(), encoded.indices.tolist(), strict=True):
        for place, caption in enumerate(found.captions[number]):
            changed = corruptor.corrupt(caption, random.Random(f"{number}:{place}"))
            if changed is None or changed == caption:
                without += 1
                continue
            owners.append(row)
            true.append(caption)
            false.append(changed)
    if not owners:
        raise DataError(
            f"{found.name}: negatives={settings.negatives!r} makes a false caption of none of the {without} "
            "captions: choose another corruptor (patchclip list corruptors)"
        )
    rows = (embedder.texts(true), embedder.texts(false))
    repeats = len(firsts) - len(firsts.unique())
    return Captioned(encoded.embeddings, *rows, torch.tensor(owners), without, repeats, encoded.bad)


def first_of_equals(rows: Float[Tensor, "m e"]) -> Int64[Tensor, " m"]:
    """Of each row the first one that is the same up to rounding, often itself.

    A table with a row for each caption names one picture several times: unseen, its captions would be learned
    from and judged on at once, and the pictures would tie.
    """
    wide = F.normalize(rows.cpu().double(), dim=-1)
    found = [
        (block @ wide.T > 1 - EQUAL**2 / 2).to(torch.uint8).argmax(1)
        for block in wide.split(BLOCK)
        if len(block)
    ]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def adapt_captions(
    embedder: Embedder, found: Retrieval, method: str, settings: Settings
) -> tuple[Adaptation, LinearMap]:
    """Fits the map on 0.8 of the images of each seed, and judges it on the others.

    Args:
        embedder: of the model.
        found: captioned images.
        method: NAME or NAME:key=value;key=value, a `CaptionAdapter`.
        settings: seeds, negatives, pairs.

    Returns:
        The outcome, and the map of the first seed.

    Raises:
        DataError: as `embed_captioned`, or too few images to hold some out.
    """
    data = embed_captioned(embedder, found, settings)
    images = data.owner.unique()
    held = round(HELD_OUT * len(images))
    if held < 1 or len(images) - held < 2:
        raise DataError(
            f"{found.name}: {len(images)} different images with a false caption; at least 3 are needed: a "
            "fifth is held out to judge on"
        )
    maps: list[LinearMap] = []
    before, after, told = [], [], []
    for seed in settings.draws:
        generator = torch.Generator().manual_seed(seed)
        shuffled = images[torch.randperm(len(images), generator=generator)]
        apart = torch.isin(data.owner, shuffled[:held])
        learned = (~apart).nonzero()[:, 0]
        started = time.perf_counter()
        rows = (data.image[data.owner[learned]], data.text[learned], data.negative[learned])
        fitted = spec.build("adapt", method).fit(*rows, generator)
        seconds = time.perf_counter() - started
        told.append(
            {"seed": seed, "captions": len(learned), "held_out": int(apart.sum()), "seconds": seconds}
        )
        before.append(judge(data, apart.nonzero()[:, 0], None))
        after.append(judge(data, apart.nonzero()[:, 0], fitted))
        maps.append(fitted)
        logger.info("%s, seed %d: %s", method, seed, _words(before[-1], after[-1]))
    return _outcome(embedder, found, method, settings, (before, after, told, data)), maps[0]


def judge(data: Captioned, rows: Int64[Tensor, " q"], fitted: LinearMap | None) -> tuple[float, ...]:
    """The measures on some captions and their images; ties count against the model."""
    text, negative = data.text[rows], data.negative[rows]
    if fitted is not None:
        text, negative = (F.normalize(fitted.apply(each), dim=-1) for each in (text, negative))
    own = data.image[data.owner[rows]]
    won = (own * text).sum(1) > (own * negative).sum(1) + COSINE_TIE
    gallery = data.owner[rows].unique()
    to_image = matched_ranks(text, data.image[gallery], data.owner[rows], gallery)[0]
    to_text = matched_ranks(data.image[gallery], text, gallery, data.owner[rows])[0]
    return float(won.double().mean()), share_within(to_image, 1), share_within(to_text, 1)


def _outcome(
    embedder: Embedder,
    found: Retrieval,
    method: str,
    settings: Settings,
    figures: tuple[Sequence[tuple[float, ...]], Sequence[tuple[float, ...]], list[dict[str, Any]], Captioned],
) -> Adaptation:
    before, after, told, data = figures
    repeats = f"{data.repeats} images that repeat another counted as it; " if data.repeats else ""
    columns = zip(MEASURES, zip(*before, strict=True), zip(*after, strict=True), strict=True)
    return Adaptation(
        kind=CAPTIONS,
        method=method,
        model=embedder.encoder.name,
        dataset=found.name,
        settings=settings.to_json(CAPTIONS),
        rows=tuple(Row(*column) for column in columns),
        seeds=tuple(told),
        protocol=(
            f"false captions by {settings.negatives}, {data.without} captions without one left out; {repeats}"
            f"a fifth of the images held out, another one for each of the seeds {settings.draws[0]} to "
            f"{settings.draws[-1]}; recall at 1 among the held-out; ties are wrong"
        ),
        fingerprint=found.images.fingerprint,
        bad=tuple(asdict(each) for each in data.bad),
    )


def _words(before: tuple[float, ...], after: tuple[float, ...]) -> str:
    pairs = zip(MEASURES, before, after, strict=True)
    return ", ".join(f"{name} {a * 100:.1f} % -> {b * 100:.1f} %" for name, a, b in pairs)
