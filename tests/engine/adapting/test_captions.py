"""False captions, those without one, and the measures on held-out pairs by hand."""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from patchclip.contracts import BadSample, Pair
from patchclip.data.sets import Retrieval
from patchclip.embeddings.linear_map import LinearMap
from patchclip.engine.adapting.captions import (
    Captioned,
    PairImages,
    adapt_captions,
    embed_captioned,
    first_of_equals,
    judge,
)
from patchclip.engine.adapting.settings import Settings
from patchclip.engine.extras import falsifier
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation.embedder import Embedder
from tests.engine.adapting._sets import picture
from tests.models._tiny import encoder


@dataclass
class Source:
    """Pairs in memory."""

    texts_of: tuple[tuple[str, ...], ...]
    bad: tuple[BadSample, ...] = ()
    bad_pairs: int = 0
    captions: int | None = None

    def __len__(self) -> int:
        return len(self.texts_of)

    def read(self, i: int) -> Pair | BadSample:
        return (
            BadSample(self.key(i), "torn") if i == 1 else Pair(picture(i % 4, i), self.texts(i), self.key(i))
        )

    def key(self, i: int) -> str:
        return f"pair {i}"

    def texts(self, i: int) -> tuple[str, ...]:
        return self.texts_of[i]


TEXTS = (("a red cube and a blue ball", "dog"), ("torn",), ("a green hat beside a red car",), ("x",))


def opened(texts: tuple[tuple[str, ...], ...] = TEXTS) -> Retrieval:
    return Retrieval("memory", PairImages(Source(texts)), list(texts))


def test_images_of_pairs_are_read_and_bad_ones_told() -> None:
    images = PairImages(Source(TEXTS))
    assert images[0].mode == "RGB"
    assert isinstance(images[0], Image.Image)
    with pytest.raises(DataError, match="pair 1: torn"):
        images[1]
    assert images.fingerprint != PairImages(Source(TEXTS[:2])).fingerprint


def test_captions_without_a_false_one_are_left_out() -> None:
    found = embed_captioned(Embedder(encoder()), opened(), Settings(negatives="swap"))
    assert found.owner.tolist() == [0, 1]  # rows of the readable images 0 and 2
    assert found.without == 2
    assert len(found.image) == 3
    again = embed_captioned(Embedder(encoder()), opened(), Settings(negatives="swap"))
    assert torch.equal(found.negative, again.negative)
    with pytest.raises(DataError, match="makes a false caption of none of the 1 captions"):
        embed_captioned(Embedder(encoder()), opened((("x",),)), Settings(negatives="swap"))


def test_a_picture_that_comes_again_is_one_image() -> None:
    texts = tuple((f"a red cube and a {word} ball",) for word in ("blue", "grey", "green", "red"))

    class Rows(PairImages):
        def __getitem__(self, index: int) -> Image.Image:
            return picture(index // 2, index // 2)  # two rows each

    found = Retrieval("table", Rows(Source(texts)), list(texts))
    data = embed_captioned(Embedder(encoder()), found, Settings(negatives="swap"))
    assert data.owner.tolist() == [0, 0, 2, 2]
    assert data.repeats == 2
    with pytest.raises(DataError, match="2 different images with a false caption; at least 3"):
        adapt_captions(Embedder(encoder()), found, "labclip:epochs=1", Settings(negatives="swap"))


def test_captions_of_one_picture_are_never_on_both_sides() -> None:
    count = 10
    words = ("blue", "grey", "green")
    texts = tuple((f"a red cube {i // 3} and a {words[i % 3]} ball",) for i in range(3 * count))

    class Rows(PairImages):
        def __getitem__(self, index: int) -> Image.Image:
            return picture(index // 3 % 4, index // 3)

    found = Retrieval("table", Rows(Source(texts)), list(texts))
    made, _ = adapt_captions(
        Embedder(encoder()), found, "labclip:epochs=1", Settings(seeds=2, negatives="swap")
    )
    assert [(each["captions"], each["held_out"]) for each in made.seeds] == [(24, 6)] * 2
    assert "20 images that repeat another counted as it; a fifth of the images held out" in made.protocol


def test_rows_are_equal_up_to_rounding_only() -> None:
    rows = F.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    near = rows[1] + 1e-6 * rows[2]
    apart = rows[3] + 1e-3 * rows[2]
    found = first_of_equals(torch.stack([*rows, near, apart, rows[0]]))
    assert found.tolist() == [0, 1, 2, 3, 4, 1, 6, 0]
    assert first_of_equals(rows[:0]).tolist() == []


def test_a_fifth_is_held_out_if_there_are_images_enough() -> None:
    with pytest.raises(DataError, match="at least 3 are needed"):
        adapt_captions(Embedder(encoder()), opened(), "labclip:epochs=1", Settings(negatives="swap"))


def test_the_measures_by_hand() -> None:
    image = torch.eye(3)
    text = F.normalize(torch.tensor([[1.0, 0.1, 0], [0.9, 0, 0.1], [0, 1.0, 0.1]]), dim=-1)
    negative = F.normalize(torch.tensor([[0.0, 1, 0], [0, 0, 1.0], [0, 1, 0.1]]), dim=-1)
    data = Captioned(image, text, negative, torch.tensor([0, 1, 2]), 0)
    won, to_image, to_text = judge(data, torch.arange(3), None)
    assert won == pytest.approx(1 / 3)  # the second's own cosine is 0, as is its false one's; third: a tie
    assert to_image == pytest.approx(1 / 3)
    assert to_text == pytest.approx(1 / 3)
    assert judge(data, torch.arange(3), LinearMap.identity(3)) == (won, to_image, to_text)
    turned = LinearMap(torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]))
    assert judge(data, torch.tensor([2]), turned)[1:] == (1.0, 1.0)
    assert not math.isnan(won)


def test_a_caption_that_is_nearer_by_rounding_alone_has_not_won() -> None:
    image = torch.eye(2)
    text = F.normalize(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), dim=-1)
    nearly = text * (1 - 5e-7)
    data = Captioned(image, text, nearly, torch.tensor([0, 1]), 0)
    assert float((image * text).sum(1)[0]) > float((image * nearly).sum(1)[0])
    assert judge(data, torch.arange(2), None)[0] == 0.0


def test_captions_that_only_say_less_are_no_negatives() -> None:
    with pytest.raises(ConfigError, match="--negatives remove must make captions false"):
        falsifier("remove", "--negatives ")
