"""What shortens the captions of a training run."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from patchclip import registry
from patchclip.config import TrainConfig, method
from patchclip.contracts import Counting, Reducer
from patchclip.data.pairs import PairSource
from patchclip.data.stream import Tokenizer
from patchclip.models.architectures import Architecture
from patchclip.models.shorten import CaptionTokenizer
from patchclip.models.text import check_shorter
from patchclip.models.words import Cutter, cutter

log = logging.getLogger(__name__)

_CHUNK = 4096  # captions cut into words at once


def build_reducer(config: TrainConfig, source: PairSource, architecture: Architecture) -> Reducer | None:
    """The reducer that `text.name` chooses; None for `truncate`, which every tokenizer does by itself.

    One that needs word counts gets those of all training captions, whatever rank this is.
    """
    family, name, options = method(config, "text")
    reducer: Reducer = registry.build(family, name, **options)
    if isinstance(reducer, Counting) and reducer.needs_counts:
        log.info("counting the words in the captions of %d pairs for text.name=%s", len(source), name)
        texts = (text for pair in range(len(source)) for text in source.texts(pair))
        reducer = reducer.counted(count_words(texts, cutter(architecture.tokenizer)))
    return None if name == "truncate" else reducer


def caption_tokenizer(
    architecture: Architecture, reducer: Reducer | None, length: int | None = None
) -> Tokenizer:
    """What turns captions into the tokens of a training batch.

    Args:
        architecture: the model and its tokenizer, which is returned where there is nothing to do.
        reducer: what chooses the tokens; None keeps the first ones.
        length: tokens of a row; None takes the model's context length.

    Raises:
        ConfigError: the length has no room for a word, or the tokenizer cannot do it.
        TowerError: the text tower would take a shorter row for something else.
    """
    if reducer is None and length is None:
        return architecture.tokenizer
    chosen = registry.build("reduction", "truncate") if reducer is None else reducer
    tokenizer = CaptionTokenizer(architecture.tokenizer, chosen, length)
    if length is not None:
        check_shorter(architecture.model, length)
    return tokenizer


def count_words(texts: Iterable[str], words: Cutter) -> Counter[str]:
    """How often each word, in lower case, stands in the texts."""
    counts: Counter[str] = Counter()
    for chunk in _chunks(texts):
        for cut in words.cut(chunk):
            counts.update(word.lower() for word in cut.words.texts)
    return counts


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
