"""An endless, reproducible stream of training batches over any source of pairs."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from patchclip.contracts import BadSample, Batch, Pair
from patchclip.data import captions
from patchclip.data._collate import Collate, Item, Skipped, Tokenizer
from patchclip.data._decode import UnusableError
from patchclip.data._order import Order, Place, Seeded, Steps, draws
from patchclip.data._worker import leave_signals_to_main
from patchclip.data.companions import Companion
from patchclip.data.nouns import NounPrompts
from patchclip.data.pairs import PairSource
from patchclip.errors import ConfigError, DataError

_PROBES = 100  # other pairs that are tried in place of a bad one
_FEWEST = 20  # a share of bad samples is not judged on fewer
_STRIDE = 2_654_435_761  # a prime: with it the probes visit every pair of a source once before any twice

Transform = Callable[[Any], Tensor]
"""What `Pair.image` becomes: a picture float32 [3,h,w], a tensor (data/features.py) usually itself."""


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is cut into batches.

    Args:
        batch_size: Pairs in one batch of this rank; the global batch is `batch_size * world_size`.
        seed: Decides order, augmentation and captions, at least 0.
        rank: This process, from 0.
        world_size: Number of processes.
        workers: Reading processes beside this one; 0 reads in this one. Batches do not depend on it.
        caption: "random" draws one caption of an image anew in each epoch, "first" always takes the first.
        max_bad_share: Share of bad samples in [0, 1] above which the stream fails.
        nouns: Share in [0, 1] of the captions that are replaced by one of their nouns in a prompt.
        prefetch: Batches that each reading process holds ready, at least 1.
        companions: Further texts of each pair, beside its caption; what they draw depends on the seed, the
            epoch and the pair alone. With some, `Batch.tokens` are [b,n,s].
    """

    batch_size: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    workers: int = 0
    caption: str = "random"
    max_bad_share: float = 0.05
    nouns: float = 0.0
    prefetch: int = 2
    companions: tuple[Companion, ...] = ()

    def __post_init__(self) -> None:
        captions.check_mode(self.caption)
        NounPrompts(self.nouns)
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size} must be at least 1: the pairs of one batch")
        if not 0 <= self.rank < self.world_size:
            raise ConfigError(f"rank={self.rank} must be in [0, world_size={self.world_size})")
        if self.workers < 0 or self.seed < 0:
            raise ConfigError(f"workers={self.workers} and seed={self.seed} must be at least 0")
        if self.prefetch < 1:
            raise ConfigError(f"prefetch={self.prefetch} must be at least 1: batches a worker holds ready")
        if not 0 <= self.max_bad_share <= 1:
            raise ConfigError(
                f"max_bad_share={self.max_bad_share} must be in [0, 1]: the share of bad samples allowed"
            )


@dataclass(frozen=True)
class Reading:
    """How samples are read from step `first_step` on: images to float32 [3,h,w], captions to int64 [n,s].

    The transform draws random numbers from torch's CPU generator only. A tokenizer that draws gets a seed for
    each caption, which depends on the run's seed, the epoch and the pair's index alone.
    """

    transform: Transform
    tokenizer: Tokenizer
    first_step: int = 0


class _Samples(Dataset[Item]):
    """The sample at (epoch, index): a pure function of (seed, epoch, index)."""

    def __init__(self, source: PairSource, transforms: Sequence[Transform], options: StreamOptions) -> None:
        self._source = source
        self._transforms = transforms
        self._options = options
        self._nouns = NounPrompts(options.nouns)

    def __getitem__(self, position: Place) -> Item:
        epoch, index, reading = position
        augmentation, draw, seed = draws(self._options.seed, epoch, index)
        bad: list[Skipped] = []
        for candidate in _candidates(index, len(self._source)):
            found = self._read(candidate, self._transforms[reading], augmentation)
            if isinstance(found, BadSample):
                bad.append((candidate, found))
                continue
            pixels, pair = found
            caption = captions.choose(pair.captions, self._options.caption, draw)
            caption = self._nouns.choose(caption, draw)
            texts = (caption, *self._companions(pair.captions, caption, seed))
            return Item(pixels, texts, pair.key, seed, reading, tuple(bad))
        return Item(None, ("",), "", seed, reading, tuple(bad))

    def _companions(self, true: tuple[str, ...], caption: str, seed: int) -> Iterator[str | None]:
        """What accompanies a caption; each companion draws numbers of its own."""
        for place, companion in enumerate(self._options.companions):
            yield companion(true, caption, random.Random(f"{seed} {place}"))

    def _read(self, index: int, transform: Transform, seed: int) -> tuple[Tensor, Pair] | BadSample:
        """A pair and the pixels made of its image, or why it cannot be used."""
        pair = self._source.read(index)
        if isinstance(pair, BadSample):
            return pair
        if not pair.captions:
            return BadSample(pair.key, "its caption is empty")
        try:
            with Seeded(seed):
                return transform(pair.image), pair
        except UnusableError as error:  # of an image that is decoded as far as the transform needs it
            return BadSample(pair.key, str(error))


def _candidates(index: int, n: int) -> Iterator[int]:
    """The pair at `index`, then others that may stand in for it, each at most once."""
    return ((index + probe * _STRIDE) % n for probe in range(min(n, _PROBES)))


class PairStream:
    """Batches of a source in a shuffled order that depends on the seed alone.

    Step s takes positions s*B to (s+1)*B - 1 (B the global batch) of the endless concatenation of one
    permutation an epoch, and each rank its part of them: no pair is lost or repeated within an epoch, and
    a run resumes anywhere from its step number. Order, augmentation and captions do not depend on the number
    of workers; order does not depend on the number of ranks either.

    A sample that turns out bad is replaced by another, always the same one, and recorded.

    Args:
        source: The pairs.
        transform: PIL image to float32 [3,h,w].
        tokenizer: Captions to int64 [n,s].
        options: Batch size, seed, ranks, workers, captions.
        later: Other readings from later steps on, by rising first step: larger images, longer captions.

    Raises:
        DataError: More than `options.max_bad_share` of the samples are bad, here while indexing, where a
            missing or cut file weighs as many as it should hold (`source.bad_pairs`), or later, as soon as
            the share found exceeds it by three standard deviations or one epoch was seen.
    """

    def __init__(
        self,
        source: PairSource,
        transform: Transform,
        tokenizer: Tokenizer,
        options: StreamOptions,
        later: Sequence[Reading] = (),
    ) -> None:
        if not len(source):
            raise DataError("a source must hold at least one usable pair, got none: check what `pairs` names")
        self._source = source
        self._options = options
        readings = (Reading(transform, tokenizer), *later)
        self._first_steps = [reading.first_step for reading in readings]
        self._samples = _Samples(source, [reading.transform for reading in readings], options)
        self._collate = Collate([reading.tokenizer for reading in readings])
        self._found: dict[int, BadSample] = {}
        self._seen = 0
        self.skipped = 0
        """Steps whose batches are left out for good: step s takes the positions of step s + skipped."""
        whole = len(source) + source.bad_pairs
        kind = "bad or missing" if source.bad_pairs > len(source.bad) else "bad"
        self._refuse(source.bad_pairs, whole, whole, kind)

    @property
    def steps_per_epoch(self) -> float:
        """Pairs divided by the global batch; usually no whole number."""
        return len(self._source) / (self._options.batch_size * self._options.world_size)

    @property
    def workers(self) -> int:
        """Processes that read beside this one."""
        return self._options.workers

    @property
    def seen(self) -> int:
        """Pairs delivered by this rank so far."""
        return self._seen

    @property
    def bad(self) -> tuple[BadSample, ...]:
        """Every bad sample met so far by this rank, once, those found while indexing first."""
        return (*self._source.bad, *self._found.values())

    def batches(self, start_step: int = 0) -> Iterator[Batch]:
        """Yields the batches of global steps start_step, start_step + 1, ... without end.

        Raises:
            DataError: Too many bad samples.
        """
        for pixels, tokens, keys, skipped in self._raw(self._steps(start_step)):
            self._record(skipped, len(keys))
            if pixels is None:
                raise DataError(self._too_many(f"{len(skipped)} samples in a row were bad"))
            yield Batch(pixels, tokens, tuple(keys), tuple(sample for _, sample in skipped))

    def state_dict(self) -> dict[str, Any]:
        """Counts to be kept with a checkpoint: pairs seen and bad samples met."""
        found = [[index, sample.key, sample.reason] for index, sample in self._found.items()]
        return {"seen": self._seen, "bad": found, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the counts of a checkpoint up again."""
        self._seen, self.skipped = state["seen"], state.get("skipped", 0)
        self._found = {index: BadSample(key, reason) for index, key, reason in state["bad"]}

    def _steps(self, start: int) -> Steps:
        options = self._options
        part = (options.batch_size, options.rank, options.world_size)
        later = [first + self.skipped for first in self._first_steps]
        return Steps(Order(options.seed, len(self._source)), part, start + self.skipped, later)

    def _raw(self, steps: Steps) -> Iterator[Any]:
        if not self._options.workers:
            return (self._collate([self._samples[position] for position in positions]) for positions in steps)
        return iter(
            DataLoader(
                self._samples,
                batch_sampler=steps,  # type: ignore[arg-type]
                num_workers=self._options.workers,
                prefetch_factor=self._options.prefetch,
                collate_fn=self._collate,
                pin_memory=torch.cuda.is_available(),
                worker_init_fn=leave_signals_to_main,
                generator=torch.Generator(),
            )
        )

    def _record(self, skipped: Sequence[Skipped], delivered: int) -> None:
        self._seen += delivered
        self._found |= {index: sample for index, sample in skipped if index not in self._found}
        if skipped:
            read = self._seen + len(self._found)
            self._refuse(len(self._found), min(read, len(self._source)), len(self._source))

    def _refuse(self, bad: int, of: int, whole: int, kind: str = "bad") -> None:
        """Fails if `bad` of `of` samples, `whole` of which exist, are surely more than the share allowed."""
        share = self._options.max_bad_share
        doubt = 0.0 if of >= whole else 3 * math.sqrt(max(of, _FEWEST) * share * (1 - share))
        if bad > share * of + doubt:
            raise DataError(self._too_many(f"{bad} of {of} samples are {kind} ({bad / of:.1%})"))

    def _too_many(self, count: str) -> str:
        listed = "\n".join(f"  {sample.key}: {sample.reason}" for sample in self.bad[:10])
        limit = f"max_bad_share={self._options.max_bad_share} allows {self._options.max_bad_share:.1%}"
        return f"{count}, {limit}. Repair the data or raise max_bad_share. The first bad samples:\n{listed}"
