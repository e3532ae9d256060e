"""Files behind addresses: downloaded once, whole, by one process, and not given up at the first failure."""

import fcntl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import fsspec
import pytest

from patchclip.contracts import Pair
from patchclip.data import _fetch
from patchclip.data.pairs import PairSource, open_pairs
from patchclip.errors import DataError
from tests.data._make import shards


def keys(source: PairSource) -> list[str]:
    pairs = [source.read(i) for i in range(len(source))]
    assert all(isinstance(pair, Pair) for pair in pairs)
    return [pair.key for pair in pairs]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(_fetch, "sleep", lambda seconds: None)
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def upload(fs: Any, path: Path, name: str) -> None:
    fs.pipe(name, path.read_bytes())


@pytest.mark.parametrize("pattern", ["memory://b/{000..001}.tar", "memory://b/*.tar"])
def test_addresses_are_downloaded_once(tmp_path: Path, memory: Any, pattern: str) -> None:
    for path in shards(tmp_path, 2, 1):
        upload(memory, path, f"/b/{path.name}")
    cache = tmp_path / "cache"
    assert keys(open_pairs(pattern, cache=cache)) == ["s000", "s001", "s002"]
    files = {path: path.stat().st_mtime_ns for path in (cache / "shards").iterdir()}
    assert len(files) == 2
    assert keys(open_pairs(pattern, cache=cache)) == ["s000", "s001", "s002"]
    assert {path: path.stat().st_mtime_ns for path in (cache / "shards").iterdir()} == files


def test_a_new_version_behind_an_address_is_fetched(tmp_path: Path, memory: Any) -> None:
    upload(memory, shards(tmp_path, 2)[0], "/b/a.tar")
    assert len(open_pairs("memory://b/a.tar", cache=tmp_path)) == 2
    upload(memory, shards(tmp_path, 5)[0], "/b/a.tar")
    assert len(open_pairs("memory://b/a.tar", cache=tmp_path)) == 5


def test_a_download_that_breaks_off_leaves_nothing(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(memory, shards(tmp_path, 2)[0], "/b/a.tar")

    def half(self: Any, remote: str, local: str) -> None:
        Path(local).write_bytes(b"half")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "get_file", half)
        with pytest.raises(
            DataError, match=r"'memory://b/a.tar' cannot be downloaded \(OSError: 4 of \d+ bytes arrived\)"
        ):
            open_pairs("memory://b/a.tar", cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "shards").iterdir()) == []
    assert len(open_pairs("memory://b/a.tar", cache=tmp_path / "cache")) == 2


@pytest.mark.parametrize("failures", [2, 3])
def test_a_shard_that_cannot_be_fetched_is_one_bad_sample_among_others(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    for path in shards(tmp_path, 3, 3, 3):
        upload(memory, path, f"/b/{path.name}")
    fetch, asked = type(memory).get_file, []

    def flaky(self: Any, remote: str, local: str) -> None:
        if remote.endswith("001.tar"):
            asked.append(remote)
            if len(asked) <= failures:
                raise LookupError("an error that is no OSError")
        fetch(self, remote, local)

    monkeypatch.setattr(type(memory), "get_file", flaky)
    source = open_pairs("memory://b/{000..002}.tar", cache=tmp_path / "cache")
    assert len(asked) == 3
    if failures == 2:
        assert (len(source), source.bad, source.bad_pairs) == (9, (), 0)
    else:
        assert keys(source) == [f"s00{i}" for i in (0, 1, 2, 6, 7, 8)]
        assert [bad.key for bad in source.bad] == ["memory://b/001.tar"]
        assert "LookupError: an error that is no OSError" in source.bad[0].reason
        assert source.bad_pairs == 3


def test_an_address_that_cannot_be_listed_is_an_error_in_words(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, path: str) -> bool:
        raise LookupError("403")

    monkeypatch.setattr(type(memory), "exists", refuse)
    with pytest.raises(DataError, match=r"'memory://b/a.tar' cannot be listed \(LookupError: 403\)"):
        open_pairs("memory://b/a.tar")


def test_ranks_that_start_together_download_once(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(memory, shards(tmp_path, 3)[0], "/b/a.tar")
    fetch, asked = type(memory).get_file, []

    def slow(self: Any, remote: str, local: str) -> None:
        asked.append(local)
        time.sleep(0.1)
        fetch(self, remote, local)

    monkeypatch.setattr(type(memory), "get_file", slow)
    with ThreadPoolExecutor(4) as ranks:
        places = set(ranks.map(lambda _: _fetch.localise("memory://b/a.tar", tmp_path / "cache"), range(4)))
    assert len(asked) == 1
    assert list((tmp_path / "cache" / "shards").iterdir()) == [places.pop()]
    assert not places


def test_a_file_system_without_locks_downloads_under_names_of_its_own(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(memory, shards(tmp_path, 3)[0], "/b/a.tar")
    content, asked, together = memory.cat_file("/b/a.tar"), [], Barrier(3)

    def same_time(self: Any, remote: str, local: str) -> None:
        """As `get_file`; the threads of this test would share the one file object of a memory file system."""
        asked.append(local)
        together.wait(30)
        Path(local).write_bytes(content)

    def refuse(*_: Any) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(type(memory), "get_file", same_time)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with ThreadPoolExecutor(3) as ranks:
        places = set(ranks.map(lambda _: _fetch.localise("memory://b/a.tar", tmp_path / "cache"), range(3)))
    assert len(set(asked)) == 3
    (place,) = places
    assert place.read_bytes() == content
    assert list((tmp_path / "cache" / "shards").iterdir()) == [place]


def test_a_file_address_is_not_copied(tmp_path: Path) -> None:
    (path,) = shards(tmp_path, 2)
    assert len(open_pairs(f"file://{path}", cache=tmp_path / "cache")) == 2
    assert not (tmp_path / "cache" / "shards").exists()
