"""What the captions of a set name: the nouns and attributes that negatives are made of."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from patchclip.data.grammar.false_words import Said, nature
from patchclip.data.grammar.phrases import Phrase, parse

_TRIES = 20
"""Nouns that are drawn before all of a pool are looked through."""

_Key = tuple[str, str, int]
_ANY = "any"


@dataclass(frozen=True)
class Pool:
    """Nouns of one kind, sorted, and running sums of how often each is named."""

    nouns: tuple[str, ...]
    sums: tuple[int, ...]

    def drawn(self, said: Said, rng: random.Random) -> str | None:
        """A noun that is false where `said` is true, as often as captions name it; None if there is none."""
        for noun in rng.choices(self.nouns, cum_weights=self.sums, k=_TRIES):
            if said.allows_noun(noun):
                return noun
        left = [noun for noun in self.nouns if said.allows_noun(noun)]
        return rng.choice(left) if left else None


@dataclass(frozen=True)
class Facts:
    """What a set's captions hold.

    Attributes:
        pools: form of a phrase, nature of its noun or "any", words of it or 0 -> nouns.
        attributes: attribute -> how often it stands before a noun.
        pairs: "attribute noun" of all captions.
    """

    pools: Mapping[_Key, Pool] = field(default_factory=dict)
    attributes: Mapping[str, int] = field(default_factory=dict)
    pairs: frozenset[str] = frozenset()

    @classmethod
    def read(cls, captions: Iterable[str]) -> "Facts":
        """Reads captions."""
        counts: dict[_Key, Counter[str]] = defaultdict(Counter)
        attributes: Counter[str] = Counter()
        pairs = set()
        for caption in captions:
            for phrase in parse(caption).phrases:
                attributes.update(word.lower for word in phrase.attributes)
                pairs |= {f"{word.lower} {phrase.head[-1].lower}" for word in phrase.attributes}
                if _is_typical(phrase):
                    shown = (
                        " ".join(word.text for word in phrase.head) if phrase.form == "name" else phrase.noun
                    )
                    for key in _keys(phrase.form, phrase.noun):
                        counts[key][shown] += 1
        return cls({key: _pool(found) for key, found in counts.items()}, dict(attributes), frozenset(pairs))

    def noun(self, form: str, like: str, said: Said, rng: random.Random) -> str | None:
        """A false noun of a form, if it can be of the nature and length of another noun."""
        for key in _keys(form, like):
            if key in self.pools and (found := self.pools[key].drawn(said, rng)):
                return found
        return None

    def any_noun(self, form: str, said: Said, rng: random.Random) -> str | None:
        """A false noun of a form."""
        pool = self.pools.get((form, _ANY, 0))
        return pool.drawn(said, rng) if pool else None


def _is_typical(phrase: Phrase) -> bool:
    """Whether the noun of a phrase can stand elsewhere: "the moon" does not say that "a moon" is usual,
    nor "a catcher and umpire" that there is a stuff called umpire."""
    exact = phrase.form != "one" or phrase.determiner in ("a", "an")
    bare = phrase.form == "bare" or (phrase.form == "mass" and nature(phrase.noun) == "person")
    return phrase.names_object and exact and not bare


def _keys(form: str, noun: str) -> tuple[_Key, ...]:
    """The pools of a noun, the narrowest first."""
    being, words = nature(noun), len(noun.split())
    return (form, being, words), (form, being, 0), (form, _ANY, words), (form, _ANY, 0)


def _pool(counts: Counter[str]) -> Pool:
    nouns = tuple(sorted(counts))
    return Pool(nouns, tuple(accumulate(counts[noun] for noun in nouns)))
