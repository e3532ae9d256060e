"""Pictures inside the page: data URIs, retrieval rows, and the choice of images to show masks on."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from patchclip.data.benchmarks import find_benchmarks, load_benchmark
from patchclip.errors import DataError
from patchclip.evaluation._reading import UNREADABLE

THUMBNAIL = 128


@dataclass(frozen=True)
class Hit:
    """One retrieved image: its data URI and whether it is the right one."""

    uri: str
    right: bool


@dataclass(frozen=True)
class CaptionRow:
    """A caption, the images nearest to it, the rank of its own image, and that image where it is missed."""

    caption: str
    hits: tuple[Hit, ...]
    rank: int
    missed: str


@dataclass(frozen=True)
class ImageRow:
    """An image, the captions nearest to it (text, right or not), and the rank of its best own caption."""

    uri: str
    captions: tuple[tuple[str, bool], ...]
    rank: int


def data_uri(image: Image.Image, side: int | None = None, quality: int = 78) -> str:
    """A picture as a WebP data URI, shrunk to at most `side` pixels; transparency is kept."""
    if side is not None and max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def retrieval_rows(root: str | Path, result: dict[str, Any]) -> tuple[list[CaptionRow], list[ImageRow]]:
    """The examples that an evaluation kept, with their pictures.

    Args:
        root: where the data set lies.
        result: an evaluation file of a retrieval set, as `Result.to_json` writes it.

    Returns:
        Caption -> images and image -> captions; empty where the file keeps no examples.

    Raises:
        DataError: the data set is no longer there, or has changed.
    """
    details = result.get("details", {})
    by_caption, by_image = details.get("caption_to_images", []), details.get("image_to_captions", [])
    if not by_caption and not by_image:
        return [], []
    benchmark = load_benchmark(root, str(result.get("dataset")))
    _check_same(benchmark, result, by_caption)
    pictures = _Pictures(benchmark)
    return [_caption_row(row, pictures) for row in by_caption], [
        ImageRow(pictures[row["image"]], tuple((text, right) for text, right in row["top"]), row["rank"])
        for row in by_image
    ]


def mask_images(root: str | Path, count: int = 8) -> list[Image.Image]:
    """Test images to draw masks on, from at most two sets: photographs and retrieval sets before others.

    Raises:
        DataError: there is no data set under the root.
    """
    names = sorted(
        find_benchmarks(root), key=lambda name: ("photo" not in name, "retrieval" not in name, name)
    )
    sets = [load_benchmark(root, name) for name in names[:2]]
    streams = [_readable(benchmark, count) for benchmark in sets]
    images: list[Image.Image] = []
    while streams and len(images) < count:
        for stream in list(streams):
            image = next(stream, None)
            if image is None:
                streams.remove(stream)
            elif len(images) < count:
                images.append(image)
    return images


def _readable(benchmark: Any, count: int) -> Iterator[Image.Image]:
    """Readable images spread evenly over a benchmark."""
    step = max(1, len(benchmark.images) // count)
    for index in range(step // 2, len(benchmark.images), step):
        try:
            yield benchmark.images[index]
        except UNREADABLE:
            continue


def _check_same(benchmark: Any, result: dict[str, Any], by_caption: list[dict[str, Any]]) -> None:
    """Examples name images by number: wrong pictures would show if the set had changed since."""
    count = result.get("images", 0) + result.get("bad", 0)
    same = len(benchmark) == count and all(row["caption"] in benchmark[row["image"]][1] for row in by_caption)
    if not same:
        raise DataError(
            f"{benchmark.name} has changed since its evaluation ({count} images then, {len(benchmark)} now): "
            "evaluate again"
        )


def _caption_row(row: dict[str, Any], pictures: "_Pictures") -> CaptionRow:
    return CaptionRow(
        caption=row["caption"],
        hits=tuple(Hit(pictures[i], i == row["image"]) for i in row["top"]),
        rank=row["rank"],
        missed="" if row["image"] in row["top"] else pictures[row["image"]],
    )


class _Pictures:
    """Thumbnails of a benchmark by index, each encoded once."""

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark
        self.made: dict[int, str] = {}

    def __getitem__(self, index: int) -> str:
        if index not in self.made:
            self.made[index] = data_uri(self.benchmark.images[index], THUMBNAIL)
        return self.made[index]
