"""Captions that are English, and false of the image by a word or two."""

import copy
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from patchclip.data.corruptors._words import LONGEST, beginning, joined, plain
from patchclip.data.grammar import lexicon, nouns
from patchclip.data.grammar.facts import Facts
from patchclip.data.grammar.phrases import plural
from patchclip.data.negatives import KINDS, Negatives
from patchclip.errors import ConfigError

_SEVERAL = """
    dogs cats horses birds cows cars trucks boats trains bicycles chairs tables lamps books bottles cups bowls
    apples bananas pizzas cakes flowers trees houses balls clocks umbrellas hats shoes men women children
"""
_MASS = """
    bread broccoli cattle clothing crowd food fruit furniture grass luggage lettuce pasta salad sand soccer
    soup someone water woods animal creature mammal people
"""
"""Words of the lists before which "a" cannot stand, or that name too much."""


@dataclass(frozen=True)
class HardCorruptor:
    """A hard negative by a small grammar of English, of the first kind in a drawn order that fits; kinds that
    add come after all others.

    The kinds: another object, attribute or relation in place of one (`replace_obj`, `replace_att`,
    `replace_rel`), two objects or attributes exchanged (`swap_obj`, `swap_att`), an object or attribute added
    (`add_obj`, `add_att`).

    Source: the kinds of Hsieh et al., "SugarCrepe", NeurIPS 2023, arXiv:2306.14610, table 1.
    Differs: by rule, see `patchclip.data.negatives`; SugarCrepe's are written by a language model.

    Nouns that replace others come from the captions of `fitted`, else from the word lists of the grammar.

    Args:
        kinds: those that are tried, at least one.

    Raises:
        ConfigError: an unknown kind, or none.
    """

    kinds: tuple[str, ...] = KINDS
    _facts: Facts | None = field(default=None, init=False, repr=False, compare=False)
    _avoid: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            raise ConfigError(f"kinds={self.kinds!r} must be one or more of {', '.join(KINDS)}")

    def fitted(self, captions: Iterable[str]) -> "HardCorruptor":
        """The same corruptor with the nouns and attributes of the captions, as often as they stand there."""
        return self._with("_facts", Facts.read(beginning(caption)[0] for caption in captions))

    def avoiding(self, captions: Sequence[str]) -> "HardCorruptor":
        """The same corruptor for an image of which all these captions are true."""
        return self._with("_avoid", tuple(captions))

    def corrupt(self, text: str, rng: random.Random) -> str | None:
        """A false caption; None where the grammar finds nothing in the text that it can change."""
        negatives = Negatives(built_in() if self._facts is None else self._facts)
        head, rest = beginning(text)
        avoid = (*self._avoid, text) if rest else self._avoid
        drawn = rng.sample(self.kinds, len(self.kinds))
        for kind in sorted(drawn, key=lambda each: each.startswith("add_")):
            found = negatives.corrupt(head, kind, rng, avoid) if len(head) <= LONGEST else None
            if found is not None and plain(found) != plain(head):
                return joined(found, rest) if rest else found
        return None

    def _with(self, name: str, value: Any) -> "HardCorruptor":
        made = copy.copy(self)
        object.__setattr__(made, name, value)
        return made


@lru_cache(maxsize=1)
def built_in() -> Facts:
    """What is known without captions: the people, animals and things of the grammar's word lists."""
    things = frozenset().union(*nouns.SYNONYMS, *(special for _, special in nouns.NAMED))
    names = (things | nouns.ANIMALS | nouns.PEOPLE) - lexicon.FRAMES - set(_MASS.split())
    single = [noun for noun in sorted(names) if not plural(noun)]
    return Facts.read([*(f"a {noun}" for noun in single), *(f"some {noun}" for noun in _SEVERAL.split())])
