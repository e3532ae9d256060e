"""Laws of the stream: the same batches whatever reads them, exact resumption, bad samples counted."""

import pickle
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

from patchclip.contracts import BadSample, Batch
from patchclip.data._order import permutation
from patchclip.data.pairs import PairSource, open_pairs
from patchclip.data.stream import PairStream, StreamOptions
from patchclip.data.transforms import train_transform
from patchclip.errors import ConfigError, DataError
from tests.data._make import Bytes, ListSource, noisy, read_captions, sample, shards, write_tar

workers = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning", "ignore:This DataLoader will create"
)


def stream(source: PairSource, **options: object) -> PairStream:
    return PairStream(
        source, train_transform(8, "light"), Bytes(), StreamOptions(**{"batch_size": 4, **options})
    )


def take(made: PairStream, count: int, start: int = 0) -> list[Batch]:
    return list(islice(made.batches(start), count))


def equal(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a.pixels, b.pixels)
        and torch.equal(a.tokens, b.tokens)
        and (a.keys, a.bad) == (b.keys, b.bad)
        for a, b in zip(left, right, strict=True)
    )


def captioned(n: int) -> ListSource:
    return ListSource([(f"{i} one", f"{i} two", f"{i} three") for i in range(n)])


def test_a_batch_holds_pixels_tokens_and_keys() -> None:
    made = stream(captioned(10))
    (batch,) = take(made, 1)
    assert batch.pixels.shape == (4, 3, 8, 8)
    assert batch.pixels.dtype == torch.float32
    assert batch.tokens.shape == (4, 16)
    assert len(batch) == len(set(batch.keys)) == 4
    assert batch.keys == tuple(f"k{i}" for i in permutation(0, 0, 10)[:4])
    assert [caption.split()[0] for caption in read_captions(batch.tokens)] == [key[1:] for key in batch.keys]
    assert made.steps_per_epoch == 2.5
    assert (made.seen, made.bad) == (4, ())


def test_each_pair_comes_once_an_epoch_in_a_new_order() -> None:
    batches = take(stream(captioned(10), batch_size=5), 6)
    epochs = [batches[i].keys + batches[i + 1].keys for i in (0, 2, 4)]
    assert [sorted(keys) for keys in epochs] == [sorted(f"k{i}" for i in range(10))] * 3
    assert len(set(epochs)) == 3


@pytest.fixture
def shard(tmp_path: Path) -> str:
    """Eleven good samples, two with a damaged image, one without a caption."""
    members = [member for i in range(11) for member in sample(i, [f"{i} a", f"{i} b"])]
    members += [("bad1.jpg", noisy()[:-200]), ("bad1.txt", b"t"), ("bad2.png", b"text"), ("bad2.txt", b"t")]
    return str(write_tar(tmp_path / "a.tar", members + sample(99, [])))


@workers
def test_workers_change_nothing(shard: str) -> None:
    alone = take(stream(open_pairs(shard), max_bad_share=1.0), 9)
    made = stream(open_pairs(shard), max_bad_share=1.0, workers=2)
    assert equal(take(made, 9), alone)
    assert any(batch.bad for batch in alone)
    assert {bad.key for bad in made.bad} == {"bad1", "bad2", "s099"}


@pytest.mark.parametrize("start", [1, 3, 4, 7])
def test_resuming_equals_an_unbroken_run(shard: str, start: int) -> None:
    unbroken = take(stream(open_pairs(shard), max_bad_share=1.0), 10)
    assert equal(take(stream(open_pairs(shard), max_bad_share=1.0), 10 - start, start), unbroken[start:])


@workers
def test_resuming_with_workers_equals_an_unbroken_run(shard: str) -> None:
    unbroken = take(stream(open_pairs(shard), max_bad_share=1.0), 6)
    assert equal(take(stream(open_pairs(shard), max_bad_share=1.0, workers=1), 3, 3), unbroken[3:])


def test_two_ranks_together_equal_one(shard: str) -> None:
    whole = take(stream(open_pairs(shard), max_bad_share=1.0, batch_size=6), 7)
    ranks = [
        take(stream(open_pairs(shard), max_bad_share=1.0, batch_size=3, rank=rank, world_size=2), 7)
        for rank in range(2)
    ]
    joined = [
        Batch(
            torch.cat([left.pixels, right.pixels]),
            torch.cat([left.tokens, right.tokens]),
            left.keys + right.keys,
            left.bad + right.bad,
        )
        for left, right in zip(*ranks, strict=True)
    ]
    assert equal(joined, whole)
    assert stream(open_pairs(shard), max_bad_share=1.0, batch_size=3, world_size=2).steps_per_epoch == 13 / 6


def test_captions_and_crops_vary_over_epochs_and_repeat_with_the_seed() -> None:
    source = captioned(4)

    def seen(seed: int, caption: str = "random") -> list[tuple[str, ...]]:
        batches = take(stream(source, seed=seed, caption=caption), 12)
        return [tuple(sorted(read_captions(batch.tokens))) for batch in batches]

    assert seen(0) == seen(0)
    assert seen(0) != seen(1)
    assert Counter(text.split()[1] for epoch in seen(0) for text in epoch).keys() == {"one", "two", "three"}
    assert set(seen(0, "first")) == {tuple(f"{i} one" for i in range(4))}
    first, second = take(stream(ListSource([("a",)]), batch_size=1), 2)
    assert not torch.equal(first.pixels, second.pixels)


def test_torch_s_generator_is_left_as_it_was() -> None:
    made = stream(captioned(5)).batches()
    torch.manual_seed(11)
    before = torch.get_rng_state()
    next(made)
    assert torch.equal(torch.get_rng_state(), before)


@workers
def test_torch_s_generator_is_left_as_it_was_by_workers() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    take(stream(captioned(5), workers=1), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_bad_sample_is_replaced_counted_once_and_reported_each_time() -> None:
    entries: list[tuple[str, ...] | str] = [(f"{i}",) for i in range(30)]
    entries[3], entries[8] = "broken", ()
    source = ListSource(entries, bad=[BadSample("k_", "found before")])
    made = stream(source, batch_size=10, max_bad_share=0.2)
    batches = take(made, 6)
    assert all(len(batch) == 10 for batch in batches)
    assert not {"k3", "k8"} & {key for batch in batches for key in batch.keys}
    assert sum(len(batch.bad) for batch in batches[:3]) == sum(len(batch.bad) for batch in batches[3:]) == 2
    reported = {bad.key: bad.reason for bad in made.bad}
    assert reported == {"k_": "found before", "k3": "broken", "k8": "its caption is empty"}
    assert len(made.bad) == 3
    counts = Counter(key for batch in batches[:3] for key in batch.keys)
    assert len(counts) == 28
    assert made.seen == 60


def test_counts_go_on_after_a_resumption() -> None:
    entries: list[tuple[str, ...] | str] = [(f"{i}",) for i in range(30)]
    entries[5] = "broken"
    whole = stream(ListSource(entries), batch_size=10)
    take(whole, 3)
    other = stream(ListSource(entries), batch_size=10)
    other.load_state_dict(pickle.loads(pickle.dumps(whole.state_dict())))  # noqa: S301
    assert (other.seen, other.bad) == (30, (BadSample("k5", "broken"),))
    take(other, 3, 3)
    assert (other.seen, len(other.bad)) == (60, 1)


def test_too_many_bad_samples_end_the_stream_with_the_first_ten() -> None:
    entries: list[tuple[str, ...] | str] = [(f"{i}",) if i % 2 else f"broken {i}" for i in range(100)]
    made = stream(ListSource(entries), batch_size=32)
    with pytest.raises(
        DataError, match=r"samples are bad \(\d+\.\d%\), max_bad_share=0.05 allows 5.0%"
    ) as error:
        take(made, 4)
    lines = str(error.value).splitlines()
    assert len(lines) == 11
    assert all(line.strip().startswith("k") and ": broken" in line for line in lines[1:])


def test_a_share_is_judged_on_enough_samples() -> None:
    entries: list[tuple[str, ...] | str] = [("a",)] * 1000
    for i in permutation(0, 0, 1000)[:3]:
        entries[i] = "broken"
    made = stream(ListSource(entries), batch_size=4)
    assert take(made, 250)[0].bad
    assert len(made.bad) == 3


@pytest.mark.parametrize("bad, fails", [(2, False), (3, True)])
def test_the_share_is_exact_at_the_end_of_an_epoch(bad: int, fails: bool) -> None:
    entries: list[tuple[str, ...] | str] = [("a",)] * 40
    entries[:bad] = ["broken"] * bad
    made = stream(ListSource(entries), batch_size=40)
    if fails:
        with pytest.raises(DataError, match=r"3 of 40 samples are bad \(7.5%\)"):
            take(made, 1)
    else:
        take(made, 5)


def test_no_bad_sample_may_be_allowed() -> None:
    with pytest.raises(DataError, match=r"max_bad_share=0.0 allows 0.0%"):
        take(stream(ListSource([("a",)] * 30 + ["broken"]), max_bad_share=0.0), 8)


def test_bad_samples_found_while_indexing_count() -> None:
    bad = [BadSample(f"b{i}", "cut") for i in range(12)]
    with pytest.raises(DataError, match=r"12 of 112 samples are bad \(10.7%\)"):
        stream(ListSource([("a",)] * 100, bad=bad))
    assert len(stream(ListSource([("a",)] * 100, bad=bad), max_bad_share=0.11).bad) == 12


def test_missing_files_count_with_all_their_pairs(tmp_path: Path) -> None:
    for path in shards(tmp_path, *[6] * 10)[5:]:
        path.unlink()
    source = open_pairs(f"{tmp_path}/{{000..009}}.tar")
    with pytest.raises(DataError, match=r"30 of 60 samples are bad or missing \(50.0%\)") as error:
        stream(source)
    assert len(str(error.value).splitlines()) == 1 + 5
    assert len(stream(source, max_bad_share=0.5).bad) == 5


@pytest.mark.parametrize("n", [1, 3, 500])
def test_nothing_but_bad_samples_is_an_error_and_no_endless_loop(n: int) -> None:
    source = ListSource(["broken"] * n)
    with pytest.raises(DataError, match=r"samples in a row were bad"):
        take(stream(source, max_bad_share=1.0), 1)
    assert source.reads <= 4 * 100


def test_one_good_pair_among_bad_ones_is_found() -> None:
    entries: list[tuple[str, ...] | str] = ["broken"] * 60
    entries[41] = ("a",)
    assert take(stream(ListSource(entries), max_bad_share=1.0), 2)[1].keys == ("k41",) * 4


@workers
def test_failures_reach_the_main_process_in_words() -> None:
    with pytest.raises(DataError, match=r"^3 of 3 samples are bad"):
        take(stream(ListSource(["broken"] * 3), workers=1), 1)


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(DataError, match=r"at least one usable pair"):
        stream(ListSource([]))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"rank": 2, "world_size": 2}, r"rank=2 must be in \[0, world_size=2\)"),
        ({"workers": -1}, "workers=-1"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"max_bad_share": 1.5}, r"max_bad_share=1.5 must be in \[0, 1\]"),
        ({"caption": "last"}, "caption='last' must be one of random, first"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StreamOptions(**{"batch_size": 4, **options})
