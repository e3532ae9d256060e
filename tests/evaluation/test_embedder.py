"""Encode once: memory, views, batches, texts."""

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation import _batches, _reading
from patchclip.evaluation.embedder import Embedder, Encoding

from ._fakes import FakeImages, TableEncoder, labelled
from ._tiny import COUNT, TinyEncoder


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


def test_a_hair_thin_image_is_left_out() -> None:
    class Thin(FakeImages):
        def __getitem__(self, index: int) -> Image.Image:
            return Image.new("RGB", (1, 201)) if index == 2 else super().__getitem__(index)

    found = Embedder(TinyEncoder(), Encoding(4)).images(Thin(COUNT), "fake")
    assert [bad.reason[:14] for bad in found.bad] == ["1 x 201 pixels"]


def test_many_texts_are_kept_and_told_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchclip.evaluation.embedder.PROMPTS_HELD", 4)
    seen: list[tuple[str, int, int]] = []
    encoding = Encoding(4, tmp_path, on_progress=lambda *step: seen.append(step))
    texts = [f"t{i}" for i in range(COUNT)]
    broken = TinyEncoder()
    plain = broken.encode_text

    def fails(tokens: Tensor) -> Tensor:
        if len(broken.text_batches) == 2:
            raise KeyboardInterrupt
        return plain(tokens)

    broken.encode_text = fails
    with pytest.raises(KeyboardInterrupt):
        Embedder(broken, encoding).texts(texts)
    encoder = TinyEncoder()
    assert torch.equal(Embedder(encoder, encoding).texts(texts), torch.eye(COUNT))
    assert encoder.text_batches == [2]
    assert seen[-3:] == [("texts", 4, 10), ("texts", 8, 10), ("texts", 10, 10)]


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


@pytest.mark.parametrize("name", ["batch_size", "threads"])
def test_counts_must_be_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0 must be at least 1"):
        Encoding(**{name: 0})
