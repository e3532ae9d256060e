"""Hard negatives: captions that are false of their image by one word or by the order of the words."""

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from patchclip.data.grammar.facts import Facts
from patchclip.data.grammar.false_words import Said
from patchclip.data.grammar.kinds import CORRUPTIONS, Task
from patchclip.data.grammar.phrases import parse
from patchclip.data.grammar.words import lower_words
from patchclip.data.sets import Choice, Retrieval, Selection
from patchclip.errors import ConfigError
from patchclip.registry import closest

KINDS = tuple(CORRUPTIONS)
"""What is wrong in a negative, by SugarCrepe's names: replace_obj, replace_att, replace_rel, swap_obj ..."""

MOST_READ = 20_000
"""Captions of a set that are read for its nouns and attributes."""

_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Negatives:
    """Makes captions false by a small grammar and the nouns and attributes of a set's captions.

    The kinds: another object, attribute or relation in place of one (`replace_obj`, `replace_att`,
    `replace_rel`), two objects or attributes exchanged (`swap_obj`, `swap_att`), an object or attribute added
    (`add_obj`, `add_att`).

    Source: the kinds of Hsieh, Zhang, Ma, Kembhavi, Krishna, "SugarCrepe", NeurIPS 2023, arXiv:2306.14610,
        table 1.
    Differs: written by rule; SugarCrepe's are written by a language model, filtered and read by people. What
        a rule cannot know (that the cat it adds stands in the picture after all) stays wrong now and then.

    Args:
        facts: of the captions; `Negatives.fit` reads them.
    """

    facts: Facts = field(default_factory=Facts, repr=False)

    @classmethod
    def fit(cls, captions: Iterable[str]) -> "Negatives":
        """Reads which nouns and attributes captions hold, and how often.

        Args:
            captions: true ones, best those of the set that is to be corrupted.
        """
        return cls(Facts.read(captions))

    def corrupt(
        self, caption: str, kind: str, generator: random.Random | int, avoid: Collection[str] = ()
    ) -> str | None:
        """A caption that is false where `caption` is true.

        Args:
            caption: a true one.
            kind: one of `KINDS`.
            generator: of all that is drawn, or its seed.
            avoid: further true captions of the image; nothing that they mention is used as false.

        Returns:
            The false caption; None where the caption has nothing of that kind.

        Raises:
            ConfigError: the kind is unknown.
        """
        if kind not in CORRUPTIONS:
            raise ConfigError(f"there is no kind of negatives {kind!r}; {closest(kind, KINDS)}")
        rng = generator if isinstance(generator, random.Random) else random.Random(generator)
        task = Task(parse(caption), Said.by([caption, *avoid]), self.facts, rng)
        found = CORRUPTIONS[kind](task)
        if found is None:
            return None
        # capitals, spaces and punctuation make no caption another one
        return None if lower_words(found) in {lower_words(text) for text in (caption, *avoid)} else found


def negatives(
    benchmark: Retrieval, kinds: Sequence[str] = KINDS, seed: int = 0, most: int = 500
) -> tuple[Selection, ...]:
    """Questions of one image, a true and a false caption, from the captions of a set.

    An image gets at most one question of a kind. Kinds for which the captions have nothing are left out.

    Args:
        benchmark: images with captions.
        kinds: of negatives, from `KINDS`.
        seed: of what is drawn; with the same seed and caption the negative is the same.
        most: questions of a kind, spread evenly over the images.

    Returns:
        A set "NAME/generated_KIND" for every kind.

    Raises:
        ConfigError: a kind is unknown, or `most` is below 1.
    """
    if most < 1:
        raise ConfigError(f"most={most} must be at least 1: the questions of a kind")
    unknown = next((kind for kind in kinds if kind not in CORRUPTIONS), None)
    if unknown is not None:
        raise ConfigError(f"there is no kind of negatives {unknown!r}; {closest(unknown, KINDS)}")
    order = sorted(range(len(benchmark)), key=lambda i: (i * _GOLDEN) % 1.0)  # any beginning of it is spread
    made = Negatives.fit(_read(benchmark, order))
    found = []
    for kind in kinds:
        choices: dict[int, Choice] = {}
        for image in order:
            if len(choices) == most:
                break
            choice = _question(made, benchmark.captions[image], image, (kind, seed))
            if choice is not None:
                choices[image] = choice
        if choices:
            ordered = tuple(choices[image] for image in sorted(choices))
            found.append(Selection(f"{benchmark.name}/generated_{kind}", benchmark.images, ordered, kind))
    return tuple(found)


def _read(benchmark: Retrieval, order: Sequence[int]) -> Iterable[str]:
    left = MOST_READ
    for image in order:
        captions = benchmark.captions[image]
        yield from captions[:left]
        left -= len(captions)
        if left <= 0:
            return


def _question(made: Negatives, captions: tuple[str, ...], image: int, what: tuple[str, int]) -> Choice | None:
    """The first caption of an image that can be corrupted, beginning at one that its number chooses."""
    kind, seed = what
    for k in range(len(captions)):
        caption = captions[(image + k) % len(captions)]
        drawn = random.Random(f"{seed} {kind} {caption}")
        false = made.corrupt(caption, kind, drawn, captions)
        if false is not None:
            return Choice((image,), (caption, false))
    return None
