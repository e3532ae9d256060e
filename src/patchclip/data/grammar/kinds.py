"""The seven ways to make a caption false, each a function of what is known and a generator."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from patchclip.data.grammar import lexicon
from patchclip.data.grammar.clauses import inside, is_spatial, may_be_subject, sides
from patchclip.data.grammar.edits import Edit, article, edited, swapped
from patchclip.data.grammar.facts import Facts
from patchclip.data.grammar.false_words import Said, differ, nature
from patchclip.data.grammar.phrases import Caption, Phrase, kinds, stem
from patchclip.data.grammar.relations import ACTIONS, INFLECTED, OPPOSITES, POSTURES, forms

_STILL = {
    "inside",
    "on",
    "in",
    "at",
    "next",
    "beside",
    "near",
    "under",
    "behind",
    "above",
    "below",
    "between",
}
"""What follows somebody who does not move."""

_MOST_PAIRED = 40
"""Phrases of a caption of which every two are compared."""


@dataclass(frozen=True)
class Task:
    """A caption to make false, with what is known about its image and its set."""

    caption: Caption
    said: Said
    facts: Facts
    rng: random.Random

    def objects(self) -> list[Phrase]:
        """The phrases that surely name an object, in random order."""
        found = [each for each in self.caption.phrases if each.names_object]
        return self.rng.sample(found, len(found))

    def plain(self, group: frozenset[str]) -> str:
        """The common word of a group of attributes, in the spelling of the set ("gray", "grey")."""
        return min(group & lexicon.PLAIN, key=lambda word: (-self.facts.attributes.get(word, 0), word))


def replace_obj(task: Task) -> str | None:
    """Another object of the set's captions in place of one."""
    for phrase in task.objects():
        form = "one" if phrase.form == "bare" else phrase.form
        if noun := task.facts.noun(form, phrase.noun, task.said, task.rng):
            return edited(task.caption.text, [(phrase.head[0].start, phrase.stop, noun)])
    return None


def add_obj(task: Task) -> str | None:
    """ "and a ..." behind an object."""
    for phrase in task.objects():
        ends = phrase.after not in lexicon.AUXILIARIES | {"and", "or"} and phrase.after not in INFLECTED
        several = phrase.form == "many"
        listed = (
            task.caption.text[phrase.stop : phrase.stop + 1] == ","
        )  # "broccoli and a boy, rice and chicken"
        agrees = several or not may_be_subject(task.caption, phrase)
        if phrase.form in ("name", "bare") or phrase.before == "between" or listed or not (ends and agrees):
            continue
        if noun := task.facts.any_noun("many" if several else "one", task.said, task.rng):
            added = noun if several else f"{article(noun)} {noun}"
            return edited(task.caption.text, [(phrase.stop, phrase.stop, f" and {added}")])
    return None


def replace_att(task: Task) -> str | None:
    """Another attribute of the same kind in place of one."""
    found = [(phrase, word) for phrase in task.caption.phrases for word in phrase.attributes]
    for phrase, word in task.rng.sample(found, len(found)):
        new = None if phrase.head[-1].lower in lexicon.FRAMES else _other_attribute(task, phrase, word.lower)
        if new:
            return edited(task.caption.text, [(word.start, word.stop, new)])
    return None


def add_att(task: Task) -> str | None:
    """An attribute that the object never has in the set's captions."""
    usable = [
        phrase
        for phrase in task.objects()
        if phrase.form != "name"
        and nature(phrase.noun) != "person"
        and phrase.head[-1].lower not in lexicon.BACKDROPS | lexicon.BODY
        and not any(
            kind in lexicon.ADDED
            for word in (*phrase.attributes, *phrase.head[:-1])  # a "brown bear" has one already
            for kind in kinds(word.lower)
        )
    ]
    words = [task.plain(group) for kind in lexicon.ADDED for group in lexicon.ATTRIBUTES[kind]]
    words = [word for word in words if word not in lexicon.LIKELY and task.said.allows_attribute(word)]
    for phrase in usable:
        noun = phrase.head[-1].lower
        true = _too_likely(noun)
        false = [word for word in words if word not in true and f"{word} {noun}" not in task.facts.pairs]
        if false:
            material = [word for word in phrase.attributes if "material" in kinds(word.lower)]
            place = (*material, *phrase.head)[0].start  # "a blue wooden box"
            return edited(task.caption.text, [(place, place, f"{task.rng.choice(false)} ")])
    return None


def replace_rel(task: Task) -> str | None:
    """A relation or action that excludes the one there is."""
    found = [*_other_relations(task), *_other_actions(task)]
    return edited(task.caption.text, [task.rng.choice(found)]) if found else None


def swap_obj(task: Task) -> str | None:
    """The two sides of a relation or action exchanged."""
    found = [pair for pair in sides(task.caption) if _may_swap(*pair)]
    if not found:
        return None
    left, right = task.rng.choice(found)
    return swapped(task.caption.text, (left.start, left.stop), (right.start, right.stop))


def swap_att(task: Task) -> str | None:
    """Two attributes of one kind exchanged between two objects."""
    phrases = [each for each in task.caption.phrases if each.names_object and each.attributes][:_MOST_PAIRED]
    pairs = []
    for i, one in enumerate(phrases):
        own = {kind for word in one.attributes for kind in kinds(word.lower)}
        for other in phrases[i + 1 :]:
            for kind in (each for each in lexicon.ATTRIBUTES if each in own):
                mine, theirs = _only(one, kind), _only(other, kind)
                if kind == "colour" and "person" in (nature(one.noun), nature(other.noun)):
                    continue
                if mine and theirs and differ(one.noun, other.noun) and _exclude(kind, mine, theirs):
                    false = (f"{theirs} {one.head[0].lower}", f"{mine} {other.head[0].lower}")
                    if not any(task.said.mentions(each) for each in false):
                        pairs.append((_word(one, mine), _word(other, theirs)))
    return swapped(task.caption.text, *task.rng.choice(pairs)) if pairs else None


CORRUPTIONS: dict[str, Callable[[Task], str | None]] = {
    each.__name__: each
    for each in (replace_obj, replace_att, replace_rel, swap_obj, swap_att, add_obj, add_att)
}


def _too_likely(noun: str) -> frozenset[str]:
    """Attributes that a noun has too often for one that is added to be false."""
    found = lexicon.COATS if nature(noun) == "animal" else frozenset()
    return found.union(*(words for nouns, words in lexicon.MAY_BE if noun in nouns or stem(noun) in nouns))


def _is_open(task: Task, phrase: Phrase, kind: str) -> bool:
    """Whether an attribute of this kind has an opposite that a picture surely tells from it."""
    being = nature(phrase.noun)
    if kind == "age" and stem(phrase.head[-1].lower) in lexicon.YOUNG:
        return False
    if kind == "size":  # of a thing alone no picture tells it, and of people it means their age
        return being != "person" and any(
            each.names_object and each is not phrase for each in task.caption.phrases
        )
    # "black" and "white" people are no colours of things
    return not (kind == ("newness" if being else "age") or (kind == "colour" and being == "person"))


def _other_attribute(task: Task, phrase: Phrase, word: str) -> str | None:
    """An attribute that excludes `word`, of one of its kinds."""
    being, found = nature(phrase.noun), []
    for kind in kinds(word):
        if not _is_open(task, phrase, kind):
            continue
        for group in lexicon.ATTRIBUTES[kind]:
            other = task.plain(group)
            found += [other] if _exclude(kind, word, other) else []
    if word == "short":
        found = ["tall" if being else "long"]
    found = [each for each in found if task.said.allows_attribute(each)]
    weights = [1 + task.facts.attributes.get(each, 0) for each in found]
    return task.rng.choices(found, weights)[0] if found else None


def _other_relations(task: Task) -> Iterator[Edit]:
    for relation in task.caption.relations:
        if not is_spatial(task.caption, relation):
            continue
        for other in OPPOSITES[relation.name]:
            if not task.said.mentions(other):
                yield relation.start, relation.stop, other


def _other_actions(task: Task) -> Iterator[Edit]:
    caption, within = task.caption, inside(task.caption)
    for i, word in enumerate(caption.words):
        verb, form = INFLECTED.get(word.lower, ("", 0))
        if i in within or form not in (1, 2):
            continue
        following = caption.words[i + 1].lower if i + 1 < len(caption.words) and caption.joined(i) else ""
        if not any(nature(each.noun) for each in caption.phrases if each.first < i):
            continue  # a vase that stands may be said to sit
        others = ACTIONS.get(verb, ()) if caption.phrase_at(i + 1) and following else ()
        group = next((each for each in POSTURES if verb in each), None)
        moving = any(each.lower in lexicon.PATHS for each in caption.words[i + 1 :])
        if group and not moving and (not following or following in _STILL):
            others = tuple(each for each in ("sit", "stand", "lie") if each not in group)
        elif group and verb in ("walk", "run", "jump") and following:
            others = tuple(each for each in ("walk", "run", "jump") if each != verb)
        for other in others:
            if not any(task.said.mentions(each) for each in forms(other)):
                yield word.start, word.stop, forms(other)[form]


def _may_swap(left: Phrase, right: Phrase) -> bool:
    usable = all(each.names_object and each.form in ("one", "many", "mass") for each in (left, right))
    plain = left.determiner not in _POSSESSIVE and right.determiner not in _POSSESSIVE
    finite = left.after in lexicon.BE or INFLECTED.get(left.after, ("", 0))[1] == 1
    agree = not finite or (left.form == "many") == (right.form == "many")
    return (
        usable and plain and agree and left.before not in ("of", "between") and differ(left.noun, right.noun)
    )


_POSSESSIVE = lexicon.DEFINITE - {"the"}


def _only(phrase: Phrase, kind: str) -> str:
    """The one attribute of a kind before a noun, "" where there is none or more than one."""
    found = [word.lower for word in phrase.attributes if kind in kinds(word.lower)]
    return found[0] if len(found) == 1 else ""


def _exclude(kind: str, one: str, other: str) -> bool:
    """Whether nothing can be called both, two words of a kind."""
    alike = (*lexicon.ATTRIBUTES[kind], *lexicon.NEAR)
    return not any(one in group and other in group for group in alike)


def _word(phrase: Phrase, attribute: str) -> tuple[int, int]:
    found = next(word for word in phrase.attributes if word.lower == attribute)
    return found.start, found.stop
