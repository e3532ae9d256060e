"""What stands between the noun phrases of a caption: who does what, and where it is."""

from collections.abc import Iterator

from patchclip.data.grammar import lexicon
from patchclip.data.grammar.phrases import Caption, Phrase, Relation
from patchclip.data.grammar.relations import ACTIONS, INFLECTED, TWO_WAY

_PARTICLED = {"look", "lean", "stare", "gaze", "talk", "turn", "go", "come", "get", "put", "wait", "work"}
"""Verbs that change their meaning with the preposition behind them."""

_THIRD = {"is", "was", "has", "does"}
_OPENS = {"", "and", "or", "but", "while", "as", "when", "where", "that", "because", "than"}
"""What stands before the subject of a clause."""


def is_spatial(caption: Caption, relation: Relation) -> bool:
    """Whether a relation says where a thing is: not "on a sunny day", "in a hat", ", under a blue sky"."""
    phrase = caption.phrase_at(relation.first + len(relation.name.split()))
    if phrase is None or not relation.first or not caption.joined(relation.first - 1):
        return False
    before = caption.words[relation.first - 1].lower
    if INFLECTED.get(before, ("", 0))[0] in _PARTICLED:
        return False
    noun = phrase.head[-1].lower
    if relation.name in ("on", "in"):
        return noun in lexicon.CONTAINERS if relation.name == "in" else noun not in lexicon.BACKDROPS
    covered = relation.name in ("under", "beneath", "underneath") and noun in lexicon.COVERS
    return noun not in lexicon.FRAMES and not covered


def may_be_subject(caption: Caption, phrase: Phrase) -> bool:
    """Whether a verb behind a phrase may agree with it: "a man in a hat is", but not "in a hat is"."""
    within = inside(caption)
    later = range(phrase.first + len(phrase.words), len(caption.words))
    verbs = (caption.words[i].lower for i in later if i not in within)
    finite = any(verb in _THIRD or INFLECTED.get(verb, ("", 0))[1] == 1 for verb in verbs)
    return finite and phrase.before in _OPENS


def inside(caption: Caption) -> set[int]:
    """Numbers of the words that belong to a phrase."""
    return {phrase.first + k for phrase in caption.phrases for k in range(len(phrase.words))}


def sides(caption: Caption) -> Iterator[tuple[Phrase, Phrase]]:
    """What stands on both sides of every relation and action."""
    places = [
        (relation.first, relation.first + len(relation.name.split()))
        for relation in caption.relations
        if relation.name not in TWO_WAY and is_spatial(caption, relation)
    ]
    for i, word in enumerate(caption.words):
        verb, form = INFLECTED.get(word.lower, ("", 0))
        if verb in ACTIONS and form in (1, 2):
            places.append((i, i + 1))
    ends = {phrase.first + len(phrase.words): phrase for phrase in caption.phrases}
    relations = {relation.first for relation in caption.relations}
    for start, stop in places:
        first = start
        while first > 0 and first not in ends and _bridges(caption, first - 1):
            first -= 1
        right = caption.phrase_at(stop)
        joined = all(caption.joined(i) for i in range(first - 1, stop)) if first and right else False
        acts = start not in relations or first < start  # then "a hat" of "a man in a hat" is not who acts
        if first in ends and right and joined and not (acts and ends[first].before not in ("", "and")):
            yield ends[first], right


def _bridges(caption: Caption, i: int) -> bool:
    word = caption.words[i].lower
    return word in lexicon.BE or INFLECTED.get(word, ("", 0))[1] in (1, 2) or word == "parked"
