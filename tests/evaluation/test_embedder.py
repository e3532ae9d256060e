"""Encode once: memory, disk, interruption, views, batches."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation import _batches, _reading, _store
from patchclip.evaluation.embedder import Embedder, Encoding

from ._fakes import FakeImages, TableEncoder, labelled, picture

COUNT = 10


class TinyEncoder(TableEncoder):
    """A table whose rows are the weights of a module, so that it can be told from another by them."""

    def __init__(self, shift: float = 0.0) -> None:
        rows = torch.eye(COUNT) + shift
        super().__init__(rows, {f"t{i}": rows[i] for i in range(COUNT)})
        self.model = nn.Linear(COUNT, COUNT, bias=False)
        self.model.weight.data = rows
        self.precision = "fp32"
        self.preprocess = Red()


class Red:
    """The red value of the first pixel, as an image of 2 x 2 pixels."""

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.full((3, 2, 2), float(image.getpixel((0, 0))[0]))

    def __repr__(self) -> str:
        return "Red()"


class Next:
    """The picture with the next number."""

    name = "next"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        return picture((index + 1) % COUNT)


def test_images_and_texts_are_encoded_once_in_memory() -> None:
    encoder, images = TinyEncoder(), FakeImages(COUNT, {3: "gone"})
    embedder = Embedder(encoder, Encoding(batch_size=4))
    found = embedder.images(images, "fake")
    assert embedder.images(images, "fake") is found
    assert encoder.image_batches == [4 - 1, 4, 2]
    assert found.indices.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert torch.equal(found.embeddings, torch.eye(COUNT)[found.indices])
    assert [(bad.key, bad.reason) for bad in found.bad] == [("fake/3", "gone")]
    rows = embedder.texts(["t2", "t0", "t2"])
    assert torch.equal(rows, torch.eye(COUNT)[[2, 0, 2]])
    assert encoder.text_batches == [2]


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


@pytest.mark.parametrize("change", ["weights", "precision", "preprocess", "set", "view", "part"])
def test_what_changes_an_embedding_changes_its_place(change: str, tmp_path: Path) -> None:
    images = FakeImages(COUNT)
    Embedder(TinyEncoder(), Encoding(4, tmp_path)).images(images, "fake")
    encoder = TinyEncoder(0.5 if change == "weights" else 0.0)
    if change == "precision":
        encoder.precision = "bf16"
    if change == "preprocess":
        encoder.preprocess = lambda image: Red()(image)
    if change == "set":
        images.fingerprint = "another"
    view = Next() if change == "view" else None
    only = [1, 2] if change == "part" else None
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
    key = _store.images_key(FakeImages(COUNT).fingerprint, "", range(COUNT))
    with _store._claimed(folder / f"{key}.lock") as mine:
        assert mine
        found = embedder.images(FakeImages(COUNT), "fake")
    assert len(found.indices) == COUNT
    assert list(folder.glob("*.npy")) == []


def test_unreadable_beginnings_and_ends_keep_their_places(tmp_path: Path) -> None:
    broken = dict.fromkeys((0, 1, 2, 3, 8, 9), "gone")
    for cache in (None, tmp_path):
        found = Embedder(TinyEncoder(), Encoding(2, cache)).images(FakeImages(COUNT, broken), "fake")
        assert found.indices.tolist() == [4, 5, 6, 7]
        assert torch.equal(found.embeddings, torch.eye(COUNT)[4:8])


@pytest.mark.parametrize("count", [0, 3])
def test_a_set_without_a_readable_image_is_an_error(count: int, tmp_path: Path) -> None:
    images = FakeImages(count, dict.fromkeys(range(count), "gone"))
    with pytest.raises(DataError, match=f"none of its {count} images"):
        Embedder(TinyEncoder(), Encoding(2, tmp_path)).images(images, "fake")


def test_class_embeddings_are_the_renormalised_mean_of_unit_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "a cat": torch.tensor([1.0, 0.0]),
        "the cat": torch.tensor([0.0, 1.0]),
        "a dog": torch.tensor([1.0, 0.0]),
        "the dog": torch.tensor([1.0, 0.0]),
    }
    half = 0.5**0.5
    data = labelled([0], ("cat", "dog"), ("a {c}", "the {}"))
    for held in (1, 100):
        monkeypatch.setattr("patchclip.evaluation.embedder.PROMPTS_HELD", held)
        encoder = TableEncoder(torch.eye(2), texts)
        found = Embedder(encoder, Encoding(batch_size=3)).classes(data)
        torch.testing.assert_close(found, torch.tensor([[half, half], [1.0, 0.0]]))
        assert encoder.text_batches == ([2, 2] if held == 1 else [3, 1])


def test_texts_of_different_length_come_back_in_order() -> None:
    encoder = TableEncoder(torch.eye(4), {f"t{i}": torch.eye(4)[i] for i in range(4)})
    lengths = [3, 1, 4, 2]
    encoder.tokenizer = lambda texts: torch.tensor(
        [[int(t[1])] + [9] * (lengths[int(t[1])] - 1) + [0] * (5 - lengths[int(t[1])]) for t in texts]
    )
    rows = _reading.encode_texts(encoder, ["t0", "t1", "t2", "t3"], 2)
    assert torch.equal(rows, torch.eye(4))
    assert _reading._length(encoder.tokenizer(["t0", "t1", "t2", "t3"])).tolist() == lengths


def test_a_batch_that_does_not_fit_is_halved(caplog: pytest.LogCaptureFixture) -> None:
    encoder = TinyEncoder()
    plain = encoder.encode_image

    def small(pixels: Tensor) -> Tensor:
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(pixels)

    encoder.encode_image = small
    with caplog.at_level(logging.WARNING):
        found = Embedder(encoder, Encoding(8)).images(FakeImages(COUNT), "fake")
    assert torch.equal(found.embeddings, torch.eye(COUNT))
    assert encoder.image_batches == [2] * 5
    assert caplog.text.count("memory is full") == 2
    encoder.encode_image = lambda pixels: (_ for _ in ()).throw(torch.OutOfMemoryError("full"))
    with pytest.raises(ConfigError, match="one image does not fit"):
        Embedder(encoder, Encoding(8)).images(FakeImages(COUNT), "fake")


def test_batch_sizes_are_powers_of_two_within_the_memory() -> None:
    assert _batches.fitting(1000, 10, 1024) == 64
    assert _batches.fitting(5, 10, 1024) == 1
    assert _batches.fitting(10**9, 1, 256) == 256
    assert _batches.free_memory(torch.device("cpu")) > 2**20
    assert _batches.found(TableEncoder(torch.eye(2), {})) == _batches.MOST["cpu"]


def test_the_memory_of_an_image_grows_with_its_side() -> None:
    class Convolving(TableEncoder):
        image_size = 32

        def __init__(self) -> None:
            super().__init__(torch.eye(2), {})
            self.model = nn.Conv2d(3, 8, 1)

        def encode_image(self, pixels: Tensor) -> Tensor:
            return self.model(pixels).mean((2, 3))

    encoder = Convolving()
    small, large = (_batches.bytes_an_image(encoder, encoder.model, side) for side in (16, 32))
    assert (small, large) == (_batches.ALIVE * 4 * 8 * 16**2, _batches.ALIVE * 4 * 8 * 32**2)
    assert not encoder.model._forward_hooks


def test_the_place_of_a_model_survives_a_copy_of_its_weights(tmp_path: Path) -> None:
    first, second = _store.model_key(TinyEncoder()), _store.model_key(TinyEncoder())
    assert first == second
    assert first != _store.model_key(TinyEncoder(1e-6))


def _notes(folder: Path) -> Iterator[dict[str, int]]:
    for path in folder.glob("*/*.json"):
        yield json.loads(path.read_text("utf-8"))


def test_the_note_says_how_far_it_is(tmp_path: Path) -> None:
    Embedder(TinyEncoder(), Encoding(4, tmp_path)).images(FakeImages(COUNT, {2: "gone"}), "fake")
    (note,) = _notes(tmp_path)
    assert note == {"format": _store.FORMAT, "done": COUNT, "dim": COUNT, "bad": {"2": "gone"}}
    shutil.rmtree(tmp_path)
