"""Hard negatives of the grammar: with and without knowledge of the training captions."""

import random

import pytest

from patchclip import spec
from patchclip.data.companions import Avoiding, Fitted
from patchclip.data.corruptors.hard import HardCorruptor, built_in
from patchclip.data.negatives import KINDS, Negatives
from patchclip.errors import ConfigError


def made(corruptor: HardCorruptor, text: str, count: int = 40) -> set[str | None]:
    return {corruptor.corrupt(text, random.Random(seed)) for seed in range(count)}


def test_a_kind_is_that_of_the_negatives() -> None:
    assert made(HardCorruptor(("swap_att",)), "a red car and a green house") == {
        "a green car and a red house"
    }
    assert made(HardCorruptor(("swap_obj",)), "a dog chasing a cat") == {"a cat chasing a dog"}
    assert made(HardCorruptor(("replace_rel",)), "a cup under a table") == {
        "a cup above a table",
        "a cup on top of a table",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_works_without_captions(kind: str) -> None:
    assert (
        HardCorruptor((kind,)).corrupt("a red dog under a green table beside a drum", random.Random(0))
        is not None
    )


def test_kinds_are_tried_until_one_fits() -> None:
    corruptor = HardCorruptor(("swap_att", "replace_rel"))
    assert made(corruptor, "a cup under a table") <= {"a cup above a table", "a cup on top of a table"}
    assert made(corruptor, "a red car and a green house") == {"a green car and a red house"}
    assert made(corruptor, "a dog") == {None}


def test_kinds_come_in_a_drawn_order() -> None:
    found = made(HardCorruptor(("swap_att", "swap_obj")), "a red dog chasing a green cat")
    assert found == {"a green dog chasing a red cat", "a green cat chasing a red dog"}


def test_kinds_that_add_come_last() -> None:
    caption = "a red dog chasing a cat"
    for found in made(HardCorruptor(), caption):
        assert found is not None
        assert len(found.split()) == len(caption.split())
    assert made(HardCorruptor(("add_obj", "swap_att")), "a red dog") != {None}


@pytest.mark.parametrize(
    "text",
    [
        "猫がテーブルの上に座っている",
        "แมวนั่งอยู่บนโต๊ะ",
        "कुर्सी पर बिल्ली",
        "חתול על השולחן",
        "Μια γάτα κάθεται στο τραπέζι",
        "Кошка",
        "강아지",
        "a 猫",
        "a dog 猫",
    ],
)
def test_other_scripts_are_not_read(text: str) -> None:
    assert made(HardCorruptor(), text) == {None}


def test_english_beside_other_scripts_is_read() -> None:
    found = made(HardCorruptor(), "a red 車")
    assert len(found) > 3
    assert all(str(each).startswith(("a ", "an ")) and str(each).endswith(" 車") for each in found)
    assert all(str(each).endswith("fé") for each in made(HardCorruptor(("replace_att",)), "a red café"))
    for each in made(HardCorruptor(), "a cafe\u0301 on a hill"):
        assert each is None or "cafe\u0301" in each


def test_what_stands_in_the_rest_of_a_long_caption_is_not_used() -> None:
    fitted = HardCorruptor(("replace_obj",)).fitted(["a sofa", "a boat", "a lamp"])
    text = "a lamp" + " is here" * 200
    assert made(fitted, text) == {each + " is here" * 200 for each in ("a sofa", "a boat")}
    assert made(fitted, f"{text} beside a ship") == {"a sofa" + " is here" * 200 + " beside a ship"}


def test_it_may_know_the_captions_of_the_set_and_of_the_image() -> None:
    assert isinstance(HardCorruptor(), Avoiding)
    assert isinstance(HardCorruptor(), Fitted)
    both = HardCorruptor().fitted(["a zeppelin"]).avoiding(("a dog",))
    assert both == HardCorruptor()
    assert "zeppelin" not in repr(both)


def test_nouns_come_from_the_captions_that_it_was_fitted_to() -> None:
    plain = HardCorruptor(("replace_obj",))
    fitted = plain.fitted(["a zeppelin", "a zeppelin on the grass", "a drum"])
    assert made(fitted, "a lamp") == {"a zeppelin", "a drum"}
    assert made(fitted, "a drum") == {"a zeppelin"}
    assert "a zeppelin" not in made(plain, "a lamp")
    assert len(made(plain, "a lamp")) > 10
    drawn = [fitted.corrupt("a lamp", random.Random(seed)) for seed in range(300)]
    assert drawn.count("a zeppelin") > 1.3 * drawn.count("a drum")


def test_what_else_is_true_of_the_image_is_not_used() -> None:
    fitted = HardCorruptor(("replace_obj",)).fitted(["a sofa", "a boat", "a lamp"])
    assert made(fitted.avoiding(("a lamp", "a couch")), "a lamp") == {"a boat"}
    assert made(fitted.avoiding(("a lamp",)), "a lamp") == {"a boat", "a sofa"}
    assert made(fitted.avoiding(("a lamp", "a sofa", "a ship")), "a lamp") == {None}


def test_what_is_built_in_names_people_animals_and_things() -> None:
    single = set(built_in().pools["one", "any", 0].nouns)
    several = set(built_in().pools["many", "any", 0].nouns)
    assert {"dog", "car", "pear"} <= single
    assert {"dogs", "cars"} <= several
    assert not single & {"people", "picture", "men", "bread", "cars"}
    assert not single & several


def test_short_captions_of_icons_are_changed_or_left_alone() -> None:
    for caption in ("grinning face", "a smiling cat with heart-eyes", "a chicken", "the flag of Aruba"):
        for found in made(HardCorruptor(), caption, 20):
            assert found is None or found != caption


def test_it_is_built_from_words() -> None:
    corruptor = spec.build("corruptors", "hard:kinds=[swap_att, replace_att]")
    assert corruptor == HardCorruptor(("swap_att", "replace_att"))


def test_it_says_what_the_negatives_say() -> None:
    fitted = Negatives.fit(["a dog", "a cat", "a boat"])
    hard = HardCorruptor(("replace_obj",)).fitted(["a dog", "a cat", "a boat"])
    for seed in range(5):
        rng = random.Random(seed)
        assert rng.sample(["replace_obj"], 1)
        assert hard.corrupt("a lamp", random.Random(seed)) == fitted.corrupt("a lamp", "replace_obj", rng)


@pytest.mark.parametrize("kinds", [(), ("swap",), ("swap_att", "swap")])
def test_kinds_are_checked(kinds: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"kinds=.* must be one or more of replace_obj"):
        HardCorruptor(kinds)
