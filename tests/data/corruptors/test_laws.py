"""What holds for every text corruptor, ours and those to come."""

import pickle
import random
from typing import Any

import pytest

from patchclip import registry
from patchclip.contracts import TextCorruptor
from patchclip.data.companions import Corrupted

NAMES = registry.names("corruptors")
CAPTIONS = (
    "A small red dog sits on a wooden bench, next to an old man.",
    "grinning face",
    "a dog",
    "NASA launches a rocket (again)",
    "the the the",
    "Dog dog",
    'a sign that says "stop"!',
    "two o’clock, half-past",
    "रेड कार नीली है",
    "一只狗, 两只猫",
    "красная машина и синий дом",
    "☀ ☂ 🐕‍🦺",
    "İstanbul'da ışık STRASSE straße",
    "e\u0301 \u200b x",
    "a\tb\nc",
    "word " * 60,
)
NOTHING = ("", " ", "\n\t", ".", "- , !", "…")


@pytest.fixture(params=NAMES)
def corruptor(request: pytest.FixtureRequest) -> Any:
    return registry.build("corruptors", request.param)


def plain(text: str) -> str:
    return " ".join(text.casefold().split())


def test_the_family_is_there() -> None:
    assert {"hard", "insert", "remove", "repeat", "shuffle", "swap"} <= set(NAMES)


def test_it_is_a_corruptor(corruptor: Any) -> None:
    assert isinstance(corruptor, TextCorruptor)


@pytest.mark.parametrize("text", CAPTIONS)
def test_it_says_something_else_or_nothing(corruptor: Any, text: str) -> None:
    for seed in range(30):
        found = corruptor.corrupt(text, random.Random(seed))
        assert found is None or type(found) is str
        if found is not None:
            assert plain(found)
            assert plain(found) != plain(text)
            assert found == " ".join(found.split())
            found.encode()


def test_most_captions_of_pictures_can_be_changed(corruptor: Any) -> None:
    captions = (
        "a red car behind a green house",
        "Two dogs chase a small ball.",
        "a man riding a brown horse",
    )
    for caption in captions:
        assert all(corruptor.corrupt(caption, random.Random(seed)) for seed in range(10))


@pytest.mark.parametrize("text", NOTHING)
def test_of_nothing_it_makes_nothing(corruptor: Any, text: str) -> None:
    assert all(corruptor.corrupt(text, random.Random(seed)) is None for seed in range(5))


@pytest.mark.parametrize("text", CAPTIONS)
def test_the_generator_decides_alone(corruptor: Any, text: str) -> None:
    random.seed(1)
    first = [corruptor.corrupt(text, random.Random(seed)) for seed in range(5)]
    random.seed(2)
    again = pickle.loads(pickle.dumps(corruptor))  # noqa: S301
    assert [again.corrupt(text, random.Random(seed)) for seed in range(5)] == first


def test_seeds_differ(corruptor: Any) -> None:
    text = "a small red dog sits on a wooden bench beside an old man with a black hat"
    assert len({corruptor.corrupt(text, random.Random(seed)) for seed in range(20)}) > 5


def test_it_can_be_corrupted_again(corruptor: Any) -> None:
    text: str | None = "a small red dog sits on a wooden bench beside an old man"
    for seed in range(5):
        assert text
        text = corruptor.corrupt(text, random.Random(seed)) or "a red dog beside a green cat"


def test_the_first_letter_stays_a_capital(corruptor: Any) -> None:
    for seed in range(20):
        found = corruptor.corrupt("A red car behind a green house.", random.Random(seed))
        assert found is None or found[0].isupper()


def test_equal_options_make_equal_corruptors(corruptor: Any) -> None:
    assert corruptor == type(corruptor)()
    assert hash(corruptor) == hash(type(corruptor)())


def test_no_caption_of_the_image_is_a_companion(corruptor: Any) -> None:
    captions = (
        "a red dog",
        "red a dog",
        "dog red a",
        "a dog red",
        "red dog a",
        "dog a red",
        "a dog",
        "red dog",
    )
    for seed in range(40):
        found = Corrupted(corruptor)(captions, captions[0], random.Random(seed))
        assert found is None or plain(found) not in captions
