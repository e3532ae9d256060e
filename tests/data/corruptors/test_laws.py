"""What holds for every text corruptor, ours and those to come."""

import pickle
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from patchclip import registry
from patchclip.contracts import TextCorruptor
from patchclip.data.companions import Corrupted
from patchclip.data.negatives import KINDS

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
LONG = (
    "a big red dog runs over the green grass near a small blue house, " * 154,
    "a red dog on a blue car under " * 334,
    " ".join(f"w{i}" for i in range(1700)),
    ", ".join(f"lovely{i}" for i in range(900)),
    "a b " * 2500,
    "x,y," * 2500,
    "walking " * 1250,
    "A b. " * 2000,
    "あ" * 10_000,
    "一只狗,两只猫;" * 1250,
    "(" * 10_000,
)
NOTHING = ("", " ", "\n\t", ".", "- , !", "…")


@pytest.fixture(params=NAMES)
def corruptor(request: pytest.FixtureRequest) -> Any:
    return registry.build("corruptors", request.param)


def seconds(function: Callable[[], object]) -> float:
    """Of the processor; a stall of the machine does not count."""
    start = time.process_time()
    function()
    return time.process_time() - start


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


@pytest.mark.parametrize("text", LONG, ids=lambda text: text[:8])
def test_the_work_for_a_long_caption_is_bounded(corruptor: Any, text: str) -> None:
    corruptor.corrupt("a dog", random.Random(0))  # reads its word lists
    assert seconds(lambda: corruptor.corrupt(text, random.Random(0))) < 0.5  # about 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", LONG, ids=lambda text: text[:8])
def test_every_kind_of_hard_negative_is_bounded(kind: str, text: str) -> None:
    hard = registry.build("corruptors", "hard", kinds=[kind])
    hard.corrupt("a dog", random.Random(0))
    assert seconds(lambda: hard.corrupt(text + kind, random.Random(0))) < 0.5  # about 0.01


def test_a_long_caption_keeps_its_rest(corruptor: Any) -> None:
    text = "A red car behind a green house. " + "It is here, seen by some. " * 100
    found = corruptor.corrupt(text, random.Random(0))
    assert found is not None
    assert found != plain(text)
    assert found.split()[-300:] == text.split()[-300:]
    assert found.startswith("A") or found[0].isupper()


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
