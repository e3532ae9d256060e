"""The results of many pictures in one folder: files for each, one COCO document and one table of areas."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patchclip.dense._legend import share_text
from patchclip.dense.files import write_text
from patchclip.dense.segmentation import HEATS, Segmentation
from patchclip.errors import DataError

ANNOTATIONS, AREAS = "annotations.json", "areas.csv"

SHOWN = 6
"""Labels of an image that its line of text names; the files have all."""


@dataclass
class Results:
    """Writes segmentations one by one and remembers what the documents of the whole need.

    Args:
        folder: is there.
        heats: heat maps an image at most.
        font: TrueType file of the legends, or None.

    Attributes:
        images: of every image its file, name, size, pixels of the labels that occur, and the files written.
        bad: file and reason of every image that could not be used.
    """

    folder: Path
    heats: int = HEATS
    font: str | None = None
    images: list[dict[str, Any]] = field(default_factory=list)
    bad: list[dict[str, str]] = field(default_factory=list)
    coco: dict[str, list[Any]] = field(
        default_factory=lambda: {"images": [], "annotations": [], "categories": []}
    )

    def add(self, found: Segmentation, file: Path, name: str) -> None:
        """Writes the files of one image.

        Args:
            found: its segmentation.
            file: it was read from.
            name: in the names of the files written.

        Raises:
            DataError: a file cannot be written.
        """
        written = found.save(self.folder, name, self.heats, self.font)
        coco = found.to_coco(len(self.images) + 1, file.as_posix(), len(self.coco["annotations"]) + 1)
        self.coco["images"] += coco["images"]
        self.coco["annotations"] += coco["annotations"]
        self.coco["categories"] = coco["categories"]
        areas = {label: pixels for label, pixels in found.areas().items() if pixels}
        height, width = found.size
        image = {"file": str(file), "name": name, "width": width, "height": height, "areas": areas}
        rest = height * width - sum(areas.values())
        self.images.append({**image, "unlabelled": rest, "written": [str(path) for path in written]})

    def write(self) -> dict[str, Any]:
        """Writes annotations.json and areas.csv, if there is an image; returns all that is known.

        Raises:
            DataError: images were given and none could be used, or a file cannot be written.
        """
        summary: dict[str, Any] = {"output": str(self.folder), "images": self.images, "bad": self.bad}
        if not self.images:
            if self.bad:
                first = self.bad[0]["reason"]
                raise DataError(first if len(self.bad) == 1 else f"no image can be used; the first: {first}")
            return summary
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["image", "label", "pixels", "share"])
        for image in self.images:
            size = image["width"] * image["height"]
            for label, pixels in (*image["areas"].items(), ("", image["unlabelled"])):
                rows.writerow([image["name"], label, pixels, f"{pixels / size:.6f}"])
        annotations = write_text(json.dumps(self.coco), self.folder / ANNOTATIONS)
        areas = write_text(table.getvalue(), self.folder / AREAS)
        return {**summary, "annotations": str(annotations), "areas": str(areas)}

    def lines(self) -> Iterator[str]:
        """A line of text an image, and one for each that could not be used."""
        for image in self.images:
            yield f"{image['name']:<24} {', '.join(_shares(image))}"
        for bad in self.bad:
            yield f"skipped: {bad['reason']}"


def _shares(image: dict[str, Any]) -> Iterator[str]:
    """The largest labels of an image with their shares."""
    size = image["width"] * image["height"]
    areas = sorted(image["areas"].items(), key=lambda item: -item[1])
    for label, pixels in areas[:SHOWN]:
        yield f"{label} {share_text(pixels / size)}"
    if len(areas) > SHOWN:
        yield f"{len(areas) - SHOWN} more"
    if image["unlabelled"]:
        yield f"no label {share_text(image['unlabelled'] / size)}"
