"""Reads the shipped sample set with the standard library."""

from __future__ import annotations

import csv
import hashlib
import json
import tarfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "patchclip" / "data" / "samples"
SETS = sorted(path.name for path in (ROOT / "test").iterdir())
CLASSIFICATION = [name for name in SETS if name.startswith("zs_")]
RETRIEVAL = [name for name in SETS if name not in CLASSIFICATION]
SHIFTED = [name for name in SETS if (ROOT / "test" / name / "shift_of.txt").exists()]
PROBED = [name for name in SETS if (ROOT / "test" / name / "train").exists()]
SPLITS = [("train", "train"), *((name, "test") for name in SETS), *((name, "train") for name in PROBED)]
Sample = dict[str, bytes]


def tars(name: str, split: str = "test") -> list[Path]:
    return sorted((ROOT / "train" if name == "train" else ROOT / "test" / name / split).glob("*.tar"))


@cache
def load(name: str, split: str = "test") -> dict[str, Sample]:
    """Return key -> extension -> bytes of one split of a set."""
    samples: dict[str, Sample] = {}
    for path in tars(name, split):
        with tarfile.open(path) as shard:
            for member in shard:
                key, extension = member.name.split(".", 1)
                file = shard.extractfile(member)
                assert file is not None
                assert extension not in samples.get(key, {}), f"{member.name} is there twice"
                samples.setdefault(key, {})[extension] = file.read()
    return samples


@cache
def rows() -> dict[tuple[str, str, str], dict[str, str]]:
    with (ROOT / "SOURCES.csv").open(encoding="utf8", newline="") as file:
        return {(row["set"], row["split"], row["key"]): row for row in csv.DictReader(file)}


def samples_of(name: str, split: str) -> dict[str, Sample]:
    return load(name) if name == "train" else load(name, split)


def classnames(name: str) -> list[str]:
    return (ROOT / "test" / name / "classnames.txt").read_text().splitlines()


def meta(sample: Sample) -> dict:
    return json.loads(sample["json"])


def digest(sample: Sample) -> str:
    return hashlib.sha256(sample["webp"]).hexdigest()
