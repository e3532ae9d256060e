"""What the grammar reads in a caption: phrases, relations, forms of words, what may name the same thing."""

import pytest

from patchclip.data.grammar.clauses import sides
from patchclip.data.grammar.edits import article, edited, swapped
from patchclip.data.grammar.false_words import Said, differ, nature
from patchclip.data.grammar.lexicon import ATTRIBUTES, PLAIN
from patchclip.data.grammar.phrases import parse, plural, stem
from patchclip.data.grammar.relations import ACTIONS, OPPOSITES, POSTURES, VERBS, forms


def test_related_nouns_do_not_differ() -> None:
    assert not differ("woman", "person")
    assert not differ("sofas", "couch")
    assert not differ("palm tree", "christmas tree")
    assert not differ("basketball", "ball")
    assert differ("dog", "cat")
    assert Said.by(["A red  cube."]).mentions("red cube")
    assert not Said.by(["a navy cube"]).allows_attribute("blue")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("a an", "apple owl hour honest umbrella orange x-ray uncle"),
        ("a", "unicorn house user european one ufo"),
    ],
)
def test_articles(words: str, wanted: str) -> None:
    assert {article(word) for word in wanted.split()} == {words.split()[-1]}


def test_articles_elsewhere_and_spaces_are_kept() -> None:
    assert edited("A  dog, a orange  cat", [(3, 6, "owl")]) == "An  owl, a orange  cat"


def test_stems_and_forms() -> None:
    assert [stem(word) for word in ("dogs", "boxes", "puppies", "bus", "glass", "leaves", "people")] == [
        *("dog", "box", "puppy", "bus", "glass", "leaf", "people")
    ]
    assert plural("people")
    assert not plural("bus")
    assert forms("carry") == ("carry", "carries", "carrying", "carried", "carried")
    assert forms("chase")[2] == "chasing"
    assert forms("push")[1] == "pushes"
    assert forms("sit")[2] == "sitting"


def test_phrases() -> None:
    found = parse("A small black and white dog is holding two tennis balls in the grass, food").phrases
    assert [(each.determiner, each.noun, each.form) for each in found] == [
        ("a", "dog", "one"),
        ("", "tennis balls", "many"),
        ("the", "grass", "one"),
        ("", "food", "tag"),
    ]
    assert [word.text for word in found[0].attributes] == ["small", "black", "white"]
    assert not parse("a clock tower stand here").phrases[0].clean


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("A woman holding two umbrellas", ["woman", "umbrellas"]),
        ("a sink with running water", ["sink", "running water"]),
        ("the boy is eating cake", ["boy", "cake"]),
        ("a bus parked near a stone bridge", ["bus", "bridge"]),
        ("a hot dog on a plate", ["hot dog", "plate"]),
        ("an orange and a gold ring", ["orange", "ring"]),
        ("a watch", ["watch"]),
    ],
)
def test_nouns(caption: str, nouns: list[str]) -> None:
    assert [each.noun for each in parse(caption).phrases] == nouns


def test_relations_are_the_longest_that_fit() -> None:
    assert [each.name for each in parse("a cup on top of a box to the left of a pen").relations] == [
        "on top of",
        "to the left of",
    ]
    assert not parse("a cup on, top of").relations[1:]


def test_sides_of_relations_and_actions() -> None:
    found = [
        [(a.noun, b.noun) for a, b in sides(parse(text))] for text in ("a cat is sitting on a box", "a man")
    ]
    assert found == [[("cat", "box")], []]
    assert not list(sides(parse("a man in a hat is holding a cup")))[1:], "the hat holds nothing"


def test_swapped_spans_keep_the_capital_at_the_beginning() -> None:
    assert swapped("A cat on an owl", (0, 5), (9, 15)) == "An owl on a cat"


def test_the_lists_fit_each_other() -> None:
    assert all(group & PLAIN for groups in ATTRIBUTES.values() for group in groups)
    assert all(other != name for name, others in OPPOSITES.items() for other in others)
    verbs = {*ACTIONS, *(verb for others in ACTIONS.values() for verb in others)}
    assert verbs | {verb for group in POSTURES for verb in group} - {"rest"} <= VERBS
    assert all(len(forms(verb)) == 5 for verb in VERBS)
    assert (nature("old woman"), nature("polar bear"), nature("bench")) == ("person", "animal", "")
