"""The shipped sample set: licences, labels, no overlap, counts. Read with the standard library."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
import zlib
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2] / "src" / "patchclip" / "data" / "samples"
ALLOWED = {
    "public-domain",
    "CC0-1.0",
    "CC-BY-2.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "Apache-2.0",
    "MIT",
    "BSD-3-Clause",
    "Unicode-3.0",
}
SETS = sorted(path.name for path in (ROOT / "test").iterdir())
CLASSIFICATION = [name for name in SETS if name.startswith("zs_")]
RETRIEVAL = [name for name in SETS if name.startswith("retrieval_")]
MEGABYTE = 1_000_000
Sample = dict[str, bytes]


def tars(name: str) -> list[Path]:
    return sorted((ROOT / "train" if name == "train" else ROOT / "test" / name / "test").glob("*.tar"))


@cache
def load(name: str) -> dict[str, Sample]:
    """Return key -> extension -> bytes of one set."""
    samples: dict[str, Sample] = {}
    for path in tars(name):
        with tarfile.open(path) as shard:
            for member in shard:
                key, extension = member.name.split(".", 1)
                file = shard.extractfile(member)
                assert file is not None
                assert extension not in samples.get(key, {}), f"{member.name} is there twice"
                samples.setdefault(key, {})[extension] = file.read()
    return samples


@cache
def rows() -> dict[tuple[str, str], dict[str, str]]:
    with (ROOT / "SOURCES.csv").open(encoding="utf8", newline="") as file:
        return {(row["set"], row["key"]): row for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", ["train", *SETS])
def test_samples_are_complete_and_have_captions(name: str) -> None:
    wanted = {"webp", "txt", "json"} | ({"cls"} if name in CLASSIFICATION else set())
    for key, sample in load(name).items():
        captions = json.loads(sample["json"])["captions"]
        assert set(sample) == wanted, key
        assert captions, key
        assert all(c.strip() and "\n" not in c for c in captions), key
        assert sample["txt"].decode() == captions[0], key


@pytest.mark.parametrize("name", ["train", *SETS])
def test_licences_are_permissive_and_listed(name: str) -> None:
    for key, sample in load(name).items():
        meta, row = json.loads(sample["json"]), rows()[name, key]
        assert meta["licence"] in ALLOWED, key
        assert row["licence"] == meta["licence"], key
        assert row["source"] == meta["source"], key
        assert row["creator"] == meta.get("creator", ""), key
        assert row["split"] == ("train" if name == "train" else "test"), key
        assert row["creator"] or not row["licence"].startswith("CC-BY"), f"{key}: CC-BY needs a name"


def test_sources_list_nothing_else() -> None:
    assert set(rows()) == {(name, key) for name in ["train", *SETS] for key in load(name)}


@pytest.mark.parametrize("name", ["train", *SETS])
def test_images_open(name: str) -> None:
    keys = sorted(load(name))
    for key in keys[:: max(1, len(keys) // 60)]:
        image = Image.open(io.BytesIO(load(name)[key]["webp"])).convert("RGB")
        assert 20 <= max(image.size) <= 256, (key, image.size)
        low, high = image.convert("L").getextrema()
        assert isinstance(low, int)
        assert isinstance(high, int)
        assert high - low > 20, f"{key} is blank"


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_every_class_has_images_and_every_label_a_class(name: str) -> None:
    classes = (ROOT / "test" / name / "classnames.txt").read_text().splitlines()
    labels = {key: int(sample["cls"]) for key, sample in load(name).items()}
    assert len(set(classes)) == len(classes)
    assert set(labels.values()) == set(range(len(classes)))
    for key, label in labels.items():
        assert json.loads(load(name)[key]["json"])["class"] == classes[label], key
    templates = (ROOT / "test" / name / "zeroshot_classification_templates.txt").read_text().splitlines()
    assert templates
    assert all("{c}" in template for template in templates)


@pytest.mark.parametrize("name", RETRIEVAL)
def test_retrieval_captions_are_unique(name: str) -> None:
    captions = [sample["txt"].decode().lower() for sample in load(name).values()]
    assert len(set(captions)) == len(captions)
    assert (ROOT / "test" / name / "dataset_type.txt").read_text().strip() == "retrieval"


@pytest.mark.parametrize("name", SETS)
def test_number_of_shards(name: str) -> None:
    assert int((ROOT / "test" / name / "test" / "nshards.txt").read_text()) == len(tars(name))


def test_no_picture_of_a_test_is_in_training() -> None:
    def digest(sample: Sample) -> str:
        return hashlib.sha256(sample["webp"]).hexdigest()

    trained = [digest(sample) for sample in load("train").values()]
    tested = {digest(sample) for name in SETS for sample in load(name).values()}
    assert len(set(trained)) == len(trained), "a picture is in training twice"
    assert not tested & set(trained)
    assert not set(load("train")) & {key for name in SETS for key in load(name)}


def test_novel_concepts_are_not_in_training() -> None:
    classes = {json.loads(s["json"])["class"] for s in load("zs_emoji_novel").values()}
    trained = {json.loads(s["json"])["class"] for k, s in load("train").items() if k.startswith("emoji_")}
    assert classes
    assert not classes & trained


def test_datasets_json_has_the_counts() -> None:
    entries = {e["name"]: e for e in json.loads((ROOT / "datasets.json").read_text())}
    assert set(entries) == {"train", *SETS}
    for name, entry in entries.items():
        assert entry["images"] == len(load(name))
        labels = {sample["cls"] for sample in load(name).values() if "cls" in sample}
        assert entry["classes"] == (len(labels) if labels else None)
        sources = {json.loads(s["json"])["source"].split(":", 1)[1] for s in load(name).values()}
        assert set(entry["source"].split(", ")) == sources
        assert entry["what"]
        assert entry["task"] in {"train", "classification", "retrieval"}


def test_every_source_licence_has_a_notice() -> None:
    notices = "\n".join(path.read_text() for path in (ROOT / "LICENSES").glob("*.txt"))
    for licence in {row["licence"] for row in rows().values()} - {"public-domain"}:
        assert licence in notices


def test_size() -> None:
    files = [path for path in ROOT.rglob("*") if path.is_file()]
    packed = sum(len(zlib.compress(path.read_bytes(), 1)) for path in files)
    assert packed < 25 * MEGABYTE, "as packed in a wheel"
    assert sum(path.stat().st_size for path in files) < 45 * MEGABYTE, "as unpacked"
