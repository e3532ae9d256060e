"""A run of words of a caption said again, in a wrong place."""

import random
from dataclasses import dataclass

from patchclip.data.corruptors._words import beginning, changed, check_longest, joined, other, pieces, spans
from patchclip.errors import ConfigError


@dataclass(frozen=True)
class RepeatCorruptor:
    """A run of 1 to `longest` words put in again 1 to `times` times, each time before a word or at the end.

    Source: Cho et al., "Fine-grained Image Captioning with CLIP Reward", Findings of NAACL 2022,
        arXiv 2205.13115 (`repeat`).
    Differs: their code fails on a text shorter than the run.

    Args:
        longest: words of the longest run, at least 1.
        times: most repetitions, at least 1.

    Raises:
        ConfigError: an option is below 1.
    """

    longest: int = 3
    times: int = 3

    def __post_init__(self) -> None:
        check_longest(self.longest)
        if self.times < 1:
            raise ConfigError(f"times={self.times} must be at least 1: how often a run is repeated at most")

    def corrupt(self, text: str, rng: random.Random) -> str | None:
        """The text with a run repeated; None for a text without words."""
        text, rest = beginning(text)
        places = spans(text)
        if not places:
            return None
        first, stop = pieces(len(places), self.longest, rng)
        run = text[places[first][0] : places[stop - 1][1]]
        ends = [*(start for start, _ in places), len(text)]
        where = [rng.choice(ends) for _ in range(rng.randint(1, self.times))]
        counts = {place: where.count(place) for place in where}
        edits = [(place, place, _put(run, count, place == len(text))) for place, count in counts.items()]
        return joined(other(text, [changed(text, edits, False)]), rest)


def _put(run: str, count: int, at_end: bool) -> str:
    said = " ".join([run] * count)
    return f" {said}" if at_end else f"{said} "
