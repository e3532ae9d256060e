"""A stream with companions: [b,n,s] tokens that depend on seed, epoch and pair alone."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import pytest
import torch
from torch import Tensor

from patchclip.contracts import Batch
from patchclip.data.companions import Companion, ShortText
from patchclip.data.pairs import PairSource
from patchclip.data.stream import PairStream, Reading, StreamOptions
from patchclip.data.transforms import train_transform
from tests.data._make import Bytes, ListSource, read_captions
from tests.data.test_stream import captioned, equal, stream, take, workers


@dataclass(frozen=True)
class Numbered:
    """A companion that says its name, the caption and a number that it draws."""

    name: str = "n"

    def __call__(self, captions: tuple[str, ...], chosen: str, rng: random.Random) -> str:
        return f"{self.name}{rng.randrange(1000)} {chosen}"


def nothing(captions: tuple[str, ...], chosen: str, rng: random.Random) -> None:
    return None


def same(captions: tuple[str, ...], chosen: str, rng: random.Random) -> str:
    return chosen


def late(captions: tuple[str, ...], chosen: str, rng: random.Random) -> str:
    return chosen.ljust(20) + "changed"


def rows(source: PairSource, *companions: Companion, **options: object) -> list[Batch]:
    return take(stream(source, companions=companions, **options), 5)


def test_tokens_hold_the_caption_and_its_companions_in_order() -> None:
    plain = take(stream(captioned(10)), 5)
    for batch, without in zip(rows(captioned(10), Numbered("a"), Numbered("b")), plain, strict=True):
        assert batch.tokens.shape == (4, 3, 16)
        assert batch.tokens.dtype == torch.int64
        assert torch.equal(batch.tokens[:, 0], without.tokens)
        assert torch.equal(batch.pixels, without.pixels)
        assert batch.keys == without.keys
        captions = read_captions(batch.tokens[:, 0])
        for place, name in ((1, "a"), (2, "b")):
            found = read_captions(batch.tokens[:, place])
            for caption, text in zip(captions, found, strict=True):
                assert text[0] == name
                assert text.endswith(caption)


def test_there_is_none_is_a_row_of_zeros() -> None:
    batch = rows(ListSource([("1 a",), ("2 a b", "2 c")] * 4), ShortText(), caption="first", batch_size=8)[0]
    for caption, row in zip(read_captions(batch.tokens[:, 0]), batch.tokens[:, 1], strict=True):
        if caption == "1 a":
            assert not row.any()
        else:
            assert read_captions(row[None]) == ["2 c"]
    assert not rows(captioned(4), nothing)[0].tokens[:, 1].any()


@pytest.mark.parametrize("companion", [same, late])
def test_a_companion_that_reads_as_its_caption_is_none(companion: Companion) -> None:
    tokens = rows(captioned(4), companion)[0].tokens
    assert tokens[:, 0].all()
    assert not tokens[:, 1].any()


def test_companions_draw_by_seed_epoch_and_pair_and_each_for_itself() -> None:
    source = ListSource([(f"{i}",) for i in range(50)])

    def found(*companions: Companion, seed: int = 0) -> list[Tensor]:
        batches = take(stream(source, companions=companions, seed=seed, batch_size=50), 2)
        return [batch.tokens for batch in batches]

    first, second = (read_captions(tokens[:, 1]) for tokens in found(Numbered()))
    assert first == read_captions(found(Numbered())[0][:, 1])
    assert len({text.split()[0] for text in first}) > 40
    assert set(first) != set(second)
    assert set(first) != set(read_captions(found(Numbered(), seed=1)[0][:, 1]))
    both = found(Numbered(), Numbered())[0]
    assert torch.equal(both[:, :2], found(Numbered())[0])
    assert read_captions(both[:, 1]) != read_captions(both[:, 2])


@workers
def test_neither_workers_nor_ranks_nor_resumption_change_companions() -> None:
    alone = rows(captioned(11), Numbered())
    assert equal(rows(captioned(11), Numbered(), workers=2), alone)
    resumed = take(stream(captioned(11), companions=(Numbered(),)), 3, 2)
    assert equal(resumed, alone[2:])
    ranks = [rows(captioned(11), Numbered(), batch_size=2, rank=r, world_size=2) for r in (0, 1)]
    for left, right, whole in zip(*ranks, alone, strict=True):
        assert torch.equal(torch.cat([left.tokens, right.tokens]), whole.tokens)


class Drawn(Bytes):
    """A tokenizer of the seeded kind: it shows its seed, and forgets the words behind the second."""

    def shortened(self, texts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        pairs = zip(texts, seeds, strict=True)
        return self([f"{seed % 100000} {' '.join(text.split()[:2])}" for text, seed in pairs])


def test_a_caption_and_its_companions_are_shortened_by_one_seed() -> None:
    options = StreamOptions(4, companions=(Numbered(), nothing, late))
    made = PairStream(captioned(10), train_transform(8, "light"), Drawn(), options)
    for batch in islice(made.batches(), 3):
        texts = [read_captions(batch.tokens[:, place]) for place in range(2)]
        seeds = [[text.split()[0] for text in each] for each in texts]
        assert seeds[0] == seeds[1]
        assert len(set(seeds[0])) > 1
        assert all(text.split()[1].startswith("n") for text in texts[1])
        assert not batch.tokens[:, 2:].any()


def test_a_later_reading_has_companions_too() -> None:
    class Long(Bytes):
        def __call__(self, texts: list[str]) -> Tensor:
            return torch.cat([super().__call__(texts)] * 2, dim=1)

    later = [Reading(train_transform(8, "light"), Long(), 1)]
    options = StreamOptions(4, companions=(Numbered(),))
    made = PairStream(captioned(10), train_transform(8, "light"), Bytes(), options, later)
    assert [batch.tokens.shape for batch in take(made, 2)] == [(4, 2, 16), (4, 2, 32)]
