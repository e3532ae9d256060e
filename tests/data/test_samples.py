"""The shipped sample set: licences, labels, no overlap, counts. Read without the package."""

from __future__ import annotations

import io
import json
import re
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tests.data._samples import (
    CLASSIFICATION,
    PROBED,
    RETRIEVAL,
    ROOT,
    SETS,
    SHIFTED,
    SPLITS,
    classnames,
    digest,
    load,
    meta,
    rows,
    samples_of,
    tars,
)

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
MEGABYTE = 1_000_000


@pytest.mark.parametrize("name, split", SPLITS)
def test_samples_are_complete_and_have_captions(name: str, split: str) -> None:
    more = {"cls"} if name in CLASSIFICATION else {"inst.png"} if name == "scenes" else set()
    for key, sample in samples_of(name, split).items():
        captions = meta(sample)["captions"]
        assert set(sample) == {"webp", "txt", "json"} | more, key
        assert captions, key
        assert all(c.strip() and "\n" not in c for c in captions), key
        assert sample["txt"].decode() == captions[0], key


@pytest.mark.parametrize("name, split", SPLITS)
def test_licences_are_permissive_and_listed(name: str, split: str) -> None:
    for key, sample in samples_of(name, split).items():
        told, row = meta(sample), rows()[name, split, key]
        assert set(told["licence"].split(" AND ")) <= ALLOWED, key
        assert row["licence"] == told["licence"], key
        assert row["source"] == told["source"], key
        assert row["creator"] == told.get("creator", ""), key
        assert row["creator"] or not row["licence"].startswith("CC-BY"), f"{key}: CC-BY needs a name"


def test_sources_list_nothing_else() -> None:
    assert set(rows()) == {(name, split, key) for name, split in SPLITS for key in samples_of(name, split)}


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


@pytest.mark.parametrize("name, split", [place for place in SPLITS if place[0] in CLASSIFICATION])
def test_every_class_has_images_and_every_label_a_class(name: str, split: str) -> None:
    classes = classnames(name)
    labels = {key: int(sample["cls"]) for key, sample in load(name, split).items()}
    assert len(set(classes)) == len(classes)
    assert set(labels.values()) <= set(range(len(classes)))
    assert name in SHIFTED or len(set(labels.values())) == len(classes)
    for key, label in labels.items():
        assert meta(load(name, split)[key])["class"] == classes[label], key
    templates = (ROOT / "test" / name / "zeroshot_classification_templates.txt").read_text().splitlines()
    assert templates
    assert all("{c}" in template for template in templates)


@pytest.mark.parametrize("name", SHIFTED)
def test_a_shifted_set_has_the_classes_of_its_twin_in_a_style_of_its_own(name: str) -> None:
    twin = (ROOT / "test" / name / "shift_of.txt").read_text().strip()
    assert classnames(name) == classnames(twin)
    assert 0.9 * len(classnames(name)) < len({sample["cls"] for sample in load(name).values()})
    sources = {meta(sample)["source"] for sample in load(name).values()}
    others = {meta(s)["source"] for other in ["train", *SETS] if other != name for s in load(other).values()}
    assert not sources & others


@pytest.mark.parametrize("name", PROBED)
def test_a_training_split_is_of_the_training_pairs_and_of_no_test(name: str) -> None:
    train = load(name, "train")
    assert {key: digest(s) for key, s in train.items()}.items() <= {
        key: digest(s) for key, s in load("train").items()
    }.items()
    assert not set(train) & set(load(name))
    count = Counter(sample["cls"] for sample in train.values())
    assert min(count.values()) >= 4
    assert max(count.values()) <= 40


def thumbnail(sample: dict[str, bytes]) -> np.ndarray:
    grey = Image.open(io.BytesIO(sample["webp"])).convert("RGB").convert("L")
    return np.asarray(grey.resize((24, 24), Image.Resampling.BILINEAR), np.float32)


@pytest.mark.parametrize("name", PROBED)
def test_no_training_split_has_near_duplicates_of_its_test(name: str) -> None:
    tested = np.stack([thumbnail(sample) for sample in load(name).values()])
    for key, sample in load(name, "train").items():
        learned = thumbnail(sample)
        for view in (learned, learned[:, ::-1]):
            assert np.abs(tested - view).mean((1, 2)).min() >= 4, key


@pytest.mark.parametrize("name", RETRIEVAL)
def test_retrieval_captions_are_unique(name: str) -> None:
    captions = [sample["txt"].decode().lower() for sample in load(name).values()]
    assert len(set(captions)) == len(captions)
    assert (ROOT / "test" / name / "dataset_type.txt").read_text().strip() == "retrieval"


@pytest.mark.parametrize("name, split", SPLITS[1:])
def test_number_of_shards(name: str, split: str) -> None:
    assert int((ROOT / "test" / name / split / "nshards.txt").read_text()) == len(tars(name, split))


def test_no_picture_of_a_test_is_in_training() -> None:
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
    tasks = {"train", "classification", "classification under shift", "retrieval", "retrieval, compositional"}
    for name, entry in entries.items():
        assert entry["images"] == len(load(name))
        assert entry["classes"] == (len(classnames(name)) if name in CLASSIFICATION else None)
        assert entry.get("train_images", 0) == (len(load(name, "train")) if name in PROBED else 0)
        sources = {p.split(":", 1)[1] for s in load(name).values() for p in meta(s)["source"].split("; ")}
        assert set(entry["source"].split(", ")) == sources
        assert entry["what"]
        assert entry["task"] in tasks


def test_the_readme_has_the_figures_of_the_sets() -> None:
    text = (ROOT / "README.md").read_text()
    assert not re.findall(r"\{\w+\}", text)
    assert f"The {len(load('scenes'))} scenes are" in text
    for name in PROBED:
        assert f" | {len(load(name))} + {len(load(name, 'train'))} train | {len(classnames(name))} |" in text


def test_every_source_licence_has_a_notice() -> None:
    notices = "\n".join(path.read_text() for path in (ROOT / "LICENSES").glob("*.txt"))
    listed = {part for row in rows().values() for part in row["licence"].split(" AND ")}
    for licence in listed - {"public-domain"}:
        assert licence in notices


def test_size() -> None:
    files = [path for path in ROOT.rglob("*") if path.is_file()]
    packed = sum(len(zlib.compress(path.read_bytes(), 1)) for path in files)
    assert packed < 22 * MEGABYTE, "as packed in a wheel"
    assert sum(path.stat().st_size for path in files) < 50 * MEGABYTE, "as unpacked"
