"""Pictures of the evaluation page: retrieved images and captions, and questions answered wrongly."""

import logging
from dataclasses import dataclass, field
from typing import Any

from patchclip.data.benchmarks import open_sets
from patchclip.data.sets import Images
from patchclip.errors import DataError, PatchclipError
from patchclip.evaluation._reading import UNREADABLE
from patchclip.evaluation._saved import Saved
from patchclip.report.evaluation.data import Collection
from patchclip.report.evaluation.sections import SELECTION
from patchclip.report.gallery import THUMBNAIL, CaptionRow, ImageRow, data_uri, retrieval_rows

logger = logging.getLogger(__name__)

RETRIEVAL = "zeroshot_retrieval"
RETRIEVAL_SETS, RETRIEVAL_ROWS = 3, 4
FAILING_PICTURES, FAILING_EACH = 24, 3


@dataclass(frozen=True)
class Retrieved:
    """Examples of one set as the best model answered them."""

    dataset: str
    model: str
    result: Saved
    by_caption: list[CaptionRow]
    by_image: list[ImageRow]


@dataclass(frozen=True)
class Failing:
    """A question with the right caption and the one that the model took for it."""

    category: str
    uri: str
    right: str
    chosen: str
    margin: float | None


@dataclass
class Pictures:
    """Entries to show, and why others cannot be shown."""

    entries: list[Any] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    model: str = ""


def retrieved(collection: Collection) -> Pictures:
    """Examples of the first few retrieval sets, of the model that is best at retrieval."""
    if not collection.of(RETRIEVAL):
        return Pictures()
    model = collection.best(RETRIEVAL)
    pictures = Pictures(model=model.name)
    for dataset in collection.sets(RETRIEVAL):
        result = collection.cell(model, RETRIEVAL, dataset)
        if result is None or len(pictures.entries) == RETRIEVAL_SETS or not result["data_root"]:
            continue
        try:
            by_caption, by_image = retrieval_rows(result["data_root"], result)
        except (PatchclipError, KeyError, TypeError, ValueError, IndexError) as error:
            _tell(pictures, dataset, error)
            continue
        if by_caption or by_image:
            rows = (by_caption[:RETRIEVAL_ROWS], by_image[:RETRIEVAL_ROWS])
            pictures.entries.append(Retrieved(dataset, model.name, result, *rows))
    return pictures


def failing(collection: Collection) -> Pictures:
    """Questions of composed captions that the best model answered wrongly, a few of each category."""
    if not collection.of(SELECTION):
        return Pictures()
    model = collection.best(SELECTION)
    pictures = Pictures(model=model.name)
    results = [
        each for name in collection.sets(SELECTION) if (each := collection.cell(model, SELECTION, name))
    ]
    wrong = [(each, _wrong(each)) for each in results]
    shares = max(1, min(FAILING_EACH, FAILING_PICTURES // max(1, sum(bool(rows) for _, rows in wrong))))
    told: set[str] = set()
    for result, rows in wrong:
        if not rows or len(pictures.entries) >= FAILING_PICTURES or not result["data_root"]:
            continue
        category = result["dataset"].rpartition("/")[2].replace("_", " ")
        try:
            images = _images_of(result)
            for row in rows[:shares]:
                margin = row.get("margin")
                pictures.entries.append(
                    Failing(
                        category,
                        _thumbnail(images, row["image"]),
                        str(row["right"]),
                        str(row.get("chosen", row.get("wrong", ""))),
                        margin if isinstance(margin, float) else None,
                    )
                )
        except (PatchclipError, *UNREADABLE) as error:
            if result["dataset"].partition("/")[0] not in told:
                told.add(result["dataset"].partition("/")[0])
                _tell(pictures, result["dataset"], error)
    return pictures


def _wrong(result: Saved) -> list[dict[str, Any]]:
    rows = result["details"].get("failing", [])
    usable = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [row for row in usable if isinstance(row.get("image"), int) and "right" in row]


def _images_of(result: Saved) -> Images:
    """The images behind a selection: of the set "a" or "a/b" for "a/b/kind"."""
    dataset = result["dataset"]
    parts = dataset.split("/")
    names = ["/".join(parts[:many]) for many in range(len(parts) - 1, 0, -1)] or parts
    reason: PatchclipError | None = None
    for name in names:
        try:
            return open_sets(result["data_root"], [name])[0].images
        except PatchclipError as error:
            reason = reason or error
    raise reason or DataError(f"{dataset} is not under {result['data_root']!r}")


def _thumbnail(images: Images, index: int) -> str:
    if not 0 <= index < len(images):
        raise DataError(
            f"image {index} must be in [0, {len(images) - 1}]: the set has changed, evaluate again"
        )
    return data_uri(images[index], THUMBNAIL)


def _tell(pictures: Pictures, dataset: str, error: Exception) -> None:
    logger.warning("the report has no pictures of %s: %s", dataset, error)
    pictures.messages.append(f"The pictures of {dataset} cannot be shown: {error}")
