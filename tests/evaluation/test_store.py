"""Embeddings on disk: found again, told apart, interrupted, damaged, out of room."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from patchclip import registry
from patchclip.evaluation import _key, _store
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.models.architectures import create
from patchclip.models.masked import attach, slot_of

from ..report._runs import TINY
from ._fakes import FakeImages
from ._tiny import COUNT, Next, TinyEncoder


def test_a_second_evaluation_reads_the_disk(tmp_path: Path) -> None:
    images = FakeImages(COUNT, {3: "gone"})
    first, second = TinyEncoder(), TinyEncoder()
    expected = Embedder(first, Encoding(2, tmp_path)).images(images, "fake")
    Embedder(first, Encoding(2, tmp_path)).texts(["t1", "t4"])
    again = Embedder(second, Encoding(4, tmp_path))
    found = again.images(images, "fake")
    assert second.image_batches == []
    assert torch.equal(found.embeddings, expected.embeddings)
    assert (found.indices.tolist(), found.bad) == (expected.indices.tolist(), expected.bad)
    assert torch.equal(again.texts(["t1", "t4"]), torch.eye(COUNT)[[1, 4]])
    assert second.text_batches == []


CHANGES = (
    *("weights", "precision", "preprocess", "tokenizer", "configuration", "device", "set", "view", "part"),
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_an_embedding_changes_its_place(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = FakeImages(COUNT)
    Embedder(TinyEncoder(), Encoding(4, tmp_path)).images(images, "fake")
    encoder = TinyEncoder(0.5 if change == "weights" else 0.0)
    if change == "precision":
        encoder.precision = "bf16"
    if change == "preprocess":
        plain = encoder.preprocess
        encoder.preprocess = lambda image: plain(image.transpose(Image.Transpose.ROTATE_180))
    if change == "tokenizer":
        encoder.tokenizer = lambda texts: encoder.tokens(texts) + (texts == _key.TEXTS)
    if change == "configuration":
        encoder.architecture = SimpleNamespace(model_cfg={"quick_gelu": True})
    if change == "device":
        monkeypatch.setattr(TinyEncoder, "device", SimpleNamespace(type="cuda"))
    if change == "set":
        images.fingerprint = "another"
    view = Next() if change == "view" else None
    only = [1, 2] if change == "part" else None
    if change == "device":
        assert _key.model_key(encoder) not in {path.name for path in tmp_path.iterdir()}
        return
    found = Embedder(encoder, Encoding(4, tmp_path)).images(images, "fake", view, only)
    assert encoder.image_batches != []
    if change == "view":
        assert torch.equal(found.embeddings, torch.eye(COUNT).roll(-1, 0))
    if change == "part":
        assert (found.indices.tolist(), found.embeddings.argmax(1).tolist()) == ([1, 2], [1, 2])


def test_an_interrupted_encode_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_store, "SAVED_EVERY", 0.0)
    images = FakeImages(COUNT, {1: "gone"})
    encoder = TinyEncoder()
    plain = encoder.encode_image

    def fails(pixels: Tensor) -> Tensor:
        if len(encoder.image_batches) == 3:
            raise KeyboardInterrupt
        return plain(pixels)

    encoder.encode_image = fails
    with pytest.raises(KeyboardInterrupt):
        Embedder(encoder, Encoding(2, tmp_path)).images(images, "fake")
    seen: list[tuple[str, int, int]] = []
    second = TinyEncoder()
    encoding = Encoding(2, tmp_path, on_progress=lambda *step: seen.append(step))
    found = Embedder(second, encoding).images(images, "fake")
    assert second.image_batches == [2, 2]
    assert seen == [("fake", 8, 10), ("fake", 10, 10)]
    assert torch.equal(found.embeddings, torch.eye(COUNT)[found.indices])
    assert [bad.key for bad in found.bad] == ["fake/1"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "note", "other"])
def test_damaged_files_are_encoded_again(damage: str, tmp_path: Path) -> None:
    images = FakeImages(COUNT)
    Embedder(TinyEncoder(), Encoding(4, tmp_path)).images(images, "fake")
    (rows,) = tmp_path.glob("*/images-*.npy")
    if damage == "cut":
        rows.write_bytes(rows.read_bytes()[:200])
    if damage == "garbage":
        rows.write_bytes(b"no array")
    if damage == "note":
        rows.with_suffix(".json").write_text("{")
    if damage == "other":
        np.save(rows, np.zeros((COUNT, 3), np.float32))
    encoder = TinyEncoder()
    found = Embedder(encoder, Encoding(4, tmp_path)).images(images, "fake")
    assert torch.equal(found.embeddings, torch.eye(COUNT))
    assert encoder.image_batches == [4, 4, 2]


def test_what_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    images = FakeImages(COUNT, {3: "the disk is away"})
    Embedder(TinyEncoder(), Encoding(4, tmp_path)).images(images, "fake")
    images.broken.clear()
    encoder = TinyEncoder()
    found = Embedder(encoder, Encoding(4, tmp_path)).images(images, "fake")
    assert (len(found.indices), found.bad) == (COUNT, ())
    again = Embedder(TinyEncoder(), Encoding(4, tmp_path)).images(images, "fake")
    assert torch.equal(again.embeddings, torch.eye(COUNT))


@pytest.mark.parametrize("state", ["training", "masked"])
def test_a_model_that_is_not_as_its_weights_say_keeps_nothing(state: str, tmp_path: Path) -> None:
    encoder = TinyEncoder()
    if state == "training":
        encoder.model.train()
    else:
        tower = create("ViT-Ti-16", image_size=32, context_length=16, overrides=TINY)
        attach(tower.model, registry.build("masking", "random"))
        encoder.model = tower.model.eval()
        slot_of(encoder.model).always = True
    Embedder(encoder, Encoding(4, tmp_path)).images(FakeImages(COUNT), "fake")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["note", "folder"])
def test_a_cache_that_goes_away_costs_only_itself(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_store, "SAVED_EVERY", 0.0)
    encoder = TinyEncoder()
    plain = encoder.encode_image

    def lose(pixels: Tensor) -> Tensor:
        if when == "folder":
            shutil.rmtree(tmp_path, ignore_errors=True)
        return plain(pixels)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    encoder.encode_image = lose
    if when == "note":
        monkeypatch.setattr(Path, "write_text", full)
    with caplog.at_level(logging.WARNING):
        found = Embedder(encoder, Encoding(2, tmp_path)).images(FakeImages(COUNT), "fake")
    assert torch.equal(found.embeddings, torch.eye(COUNT))
    assert "embeddings are not kept" in caplog.text


def test_a_cache_that_can_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Embedder(TinyEncoder(), Encoding(4, tmp_path)).images(FakeImages(COUNT), "fake")

    def denied(*_: object) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(_store, "_claimed", denied)
    encoder = TinyEncoder()
    found = Embedder(encoder, Encoding(4, tmp_path)).images(FakeImages(COUNT), "fake")
    assert torch.equal(found.embeddings, torch.eye(COUNT))
    assert encoder.image_batches == []


def test_a_disk_without_locks_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(_store.fcntl, "flock", unsupported)
    Embedder(TinyEncoder(), Encoding(4, tmp_path)).images(FakeImages(COUNT), "fake")
    assert len(list(tmp_path.glob("*/images-*.npy"))) == 1


def test_names_of_rows_know_where_a_text_ends() -> None:
    assert _key.texts_key(["ab", "c"]) != _key.texts_key(["a", "bc"])
    assert _key.prompts_key([["a"], ["b", "c"]]) != _key.prompts_key([["a", "b"], ["c"]])


def test_a_full_disk_costs_the_cache_and_not_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_store.os, "posix_fallocate", full)
    with caplog.at_level(logging.WARNING):
        found = Embedder(TinyEncoder(), Encoding(4, tmp_path)).images(FakeImages(COUNT, {0: "x"}), "fake")
    assert "No space left" in caplog.text
    assert len(found.indices) == COUNT - 1
    assert list(tmp_path.glob("*/*.npy")) == []


def test_a_folder_that_cannot_be_written_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        found = Embedder(TinyEncoder(), Encoding(4, tmp_path / "file")).images(FakeImages(COUNT), "fake")
    assert "embeddings are not kept" in caplog.text
    assert len(found.indices) == COUNT


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    encoder = TinyEncoder()
    embedder = Embedder(encoder, Encoding(4, tmp_path))
    folder = embedder.store.folder()
    assert folder is not None
    key = _key.images_key(FakeImages(COUNT).fingerprint, "", range(COUNT))
    with _store._claimed(folder / f"{key}.lock") as mine:
        assert mine
        found = embedder.images(FakeImages(COUNT), "fake")
    assert len(found.indices) == COUNT
    assert list(folder.glob("*.npy")) == []


def test_the_place_of_a_model_survives_a_copy_of_its_weights(tmp_path: Path) -> None:
    first, second = _key.model_key(TinyEncoder()), _key.model_key(TinyEncoder())
    assert first == second
    assert first != _key.model_key(TinyEncoder(1e-6))


def _notes(folder: Path) -> Iterator[dict[str, int]]:
    for path in folder.glob("*/*.json"):
        yield json.loads(path.read_text("utf-8"))


def test_the_note_says_how_far_it_is(tmp_path: Path) -> None:
    Embedder(TinyEncoder(), Encoding(4, tmp_path)).images(FakeImages(COUNT, {2: "gone"}), "fake")
    (note,) = _notes(tmp_path)
    assert note == {"format": _store.FORMAT, "done": COUNT, "dim": COUNT, "bad": {"2": "gone"}}
    shutil.rmtree(tmp_path)
