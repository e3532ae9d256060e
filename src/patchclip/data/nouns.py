"""Nouns of a caption, each in a prompt: further texts for the caption's image."""

import random
from dataclasses import dataclass
from functools import lru_cache

from patchclip.data.captions import clean
from patchclip.data.grammar import lexicon
from patchclip.data.grammar.phrases import Phrase, parse
from patchclip.data.grammar.relations import NOUNS_IN_ING
from patchclip.errors import ConfigError

PROMPTS = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven prompts of PACL: those that CLIP's authors chose for ImageNet."""

_NOT_SHOWN = (lexicon.FRAMES - lexicon.FRAMES_TOO) | lexicon.PICTURES


@lru_cache(maxsize=4096)
def nouns(caption: str) -> tuple[str, ...]:
    """The nouns of a caption that name something to be seen, lower case, each once, in their order.

    They are the heads of its noun phrases, up to three words long ("fire truck"), as the grammar of
    `data/grammar` reads them. A phrase that it doubts is left out, and so is what names a picture rather than
    something in it ("photo", "view", "group").
    """
    return tuple(dict.fromkeys(phrase.noun for phrase in parse(clean(caption)).phrases if _shown(phrase)))


def _shown(phrase: Phrase) -> bool:
    last = phrase.head[-1].lower
    if last in _NOT_SHOWN or (last.endswith("ing") and last not in NOUNS_IN_ING and not phrase.determiner):
        return False
    return phrase.clean or phrase.noun in lexicon.BARE_PLURALS  # "a fish" is no error of the caption


@dataclass(frozen=True)
class NounPrompts:
    """Puts nouns of captions into prompts, and shows such a text in place of a share of the captions.

    Source: Mukhoti et al., "Open Vocabulary Semantic Segmentation with Patch Aligned Contrastive Learning",
    CVPR 2023, arXiv 2212.04994, appendix A.2.
    Differs: the paper adds these texts to the captions and does not say how often each is seen: here
    each time that an image is seen, one text is drawn. Nouns are found by this project's grammar of English.

    Args:
        share: of the texts that are a noun in a prompt, in [0, 1]; a caption without nouns stays itself.
        prompts: each with {} where the noun goes.

    Raises:
        ConfigError: a share outside its range, or prompts without {}.
    """

    share: float = 0.5
    prompts: tuple[str, ...] = PROMPTS

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(
                f"nouns={self.share} must be in [0, 1]: the share of texts that are a noun in a prompt"
            )
        wrong = [prompt for prompt in self.prompts if prompt.count("{}") != 1]
        if wrong or not self.prompts:
            raise ConfigError(f"prompts={wrong or self.prompts!r} must each hold {{}} once: the noun's place")

    def texts(self, caption: str) -> tuple[str, ...]:
        """Every noun of a caption in every prompt, noun by noun; nothing where it has no nouns."""
        return tuple(prompt.replace("{}", noun) for noun in nouns(caption) for prompt in self.prompts)

    def choose(self, caption: str, draw: int) -> str:
        """The caption, or one of its texts at random, equally likely each.

        Args:
            caption: as it was chosen for its image.
            draw: a uniform integer >= 0, drawn from (seed, epoch, index): it decides.
        """
        if not self.share:
            return caption
        rng = random.Random(draw)
        texts = self.texts(caption) if rng.random() < self.share else ()
        return rng.choice(texts) if texts else caption
