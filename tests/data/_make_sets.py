"""Tiny evaluation sets for the tests, one function for each layout."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.data._make import Member, encoded, write_tar


def lines(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), "utf-8")
    return path


def as_json(path: Path, content: Any) -> Path:
    return lines(path, json.dumps(content))


def picture(path: Path, number: int = 0, side: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(number, "png", side))
    return path


def wds_classes(folder: Path, labels: Sequence[str], shards: int = 1, split: str = "test") -> Path:
    for shard in range(shards):
        members: list[Member] = []
        for i, label in list(enumerate(labels))[shard::shards]:
            members += [(f"s{i:07d}.webp", encoded(i, "webp")), (f"s{i:07d}.cls", label.encode())]
        write_tar(folder / split / f"{shard}.tar", members)
    lines(folder / split / "nshards.txt", str(shards))
    lines(folder / "classnames.txt", "a cat", "a dog")
    lines(folder / "zeroshot_classification_templates.txt", "a photo of {c}.", "{c}")
    return folder


def wds_captions(folder: Path, texts: Sequence[str], kind: str = "retrieval") -> Path:
    members: list[Member] = []
    for i, text in enumerate(texts):
        members += [(f"s{i:07d}.txt", text.encode()), (f"s{i:07d}.png", encoded(i))]
    write_tar(folder / "test" / "0.tar", members)
    lines(folder / "test" / "nshards.txt", "1")
    lines(folder / "dataset_type.txt", kind)
    return folder


def class_folders(base: Path, *names: str, images: int = 1) -> Path:
    """Image k of folder i has the colour 10 i + k."""
    for i, name in enumerate(names):
        for k in range(images):
            picture(base / name / f"{k}.png", 10 * i + k)
    return base


def question(file: str, true: str = "a cat", false: str = "a dog") -> dict[str, str]:
    return {"filename": file, "caption": true, "negative_caption": false}
