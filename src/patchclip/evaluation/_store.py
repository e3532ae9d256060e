"""Embeddings on disk: plain .npy files of rows beside a small JSON file that says how far they are."""

import contextlib
import fcntl
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import Encoder
from patchclip.evaluation import _key
from patchclip.evaluation._reading import Block

logger = logging.getLogger(__name__)

SAVED_EVERY = 5.0
"""Seconds between notes of how far an encode is: what an interruption costs at most."""

FORMAT = 1


@dataclass(frozen=True)
class Rows:
    """All rows of an encode: NaN for unreadable images, which `bad` names by their row."""

    values: Float[Tensor, "n e"]
    bad: dict[int, str]


class Store:
    """Embeddings of one encoder in a folder of their own, or nowhere.

    The folder is named after the model's weights, configuration, preprocessing, precision and device, so that
    an overwritten checkpoint is never confused with the one before.

    Args:
        encoder: whose embeddings are kept.
        folder: of all models; None keeps nothing.
    """

    def __init__(self, encoder: Encoder, folder: Path | None) -> None:
        self._encoder, self._cache = encoder, folder
        self._folder: Path | None = None

    def rows(self, key: str, make: Callable[[], Float[Tensor, "n e"]]) -> Float[Tensor, "n e"]:
        """The rows kept under a key, made first where there are none."""
        folder = self.folder()
        if folder is None:
            return make()
        path = folder / f"{key}.npy"
        found = _loaded(path)
        if found is None:
            found = make()
            _write(path, found)
        return found

    def encoded(self, key: str, count: int, encode: Callable[[int], Iterator[Block]]) -> Rows:
        """The rows of `count` images, encoded from where an earlier call stopped.

        Args:
            key: of the images.
            count: images in all.
            encode: called with the number of rows that are there; yields the blocks that follow.
        """
        folder = self.folder()
        if folder is None:
            return _in_memory(encode(0))
        growing = _Growing(folder / f"{key}.npy", count)
        found = growing.complete()
        if found is not None:
            return found
        with _claimed(folder / f"{key}.lock") as mine:
            if not mine:
                logger.info("another process encodes the same images: its cache is left alone")
                return _in_memory(encode(0))
            return growing.filled(encode)

    def forget(self, key: str) -> None:
        """The rows of a key are encoded again when they are next asked for."""
        folder = self.folder()
        if folder is not None:
            with contextlib.suppress(OSError):
                (folder / f"{key}.json").unlink(missing_ok=True)

    def folder(self) -> Path | None:
        """The folder of this encoder, made if need be; None where nothing can be kept."""
        if self._cache is None or _key.changing(self._encoder):
            return None
        if self._folder is None:
            folder = self._cache / _key.model_key(self._encoder)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                logger.warning("embeddings are not kept, %s cannot be written: %s", self._cache, error)
                self._cache = None
                return None
            self._folder = folder
        return self._folder


def _in_memory(blocks: Iterator[Block]) -> Rows:
    parts: list[Tensor] = []
    bad: dict[int, str] = {}
    start = 0
    for block in blocks:
        bad |= {start + i: reason for i, reason in block.bad.items()}
        start += len(block.rows)
        parts.append(block.rows)
    width = max((part.shape[1] for part in parts), default=0)
    return Rows(torch.cat([part for part in parts if part.shape[1] == width] or [torch.empty(0, 0)]), bad)


class _Growing:
    """A .npy file of a known number of rows that is filled from the top."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count = path, count
        self.notes = path.with_suffix(".json")

    def complete(self) -> Rows | None:
        """All rows, if they are there."""
        array, done, bad = self._opened()
        return Rows(torch.from_numpy(array), bad) if array is not None and done >= self.count else None

    def filled(self, encode: Callable[[int], Iterator[Block]]) -> Rows:
        """All rows, the missing ones encoded."""
        array, done, bad = self._opened()
        blocks = encode(done)
        if array is None:
            first = next(blocks, None)
            if first is None:
                return Rows(torch.empty(0, 0), {})
            blocks = itertools.chain([first], blocks)
            array = self._allocated(first.rows.shape[1]) if first.rows.shape[1] else None
            if array is None:  # no image can be read, or there is no room on the disk
                return _in_memory(blocks)
        self._write(array, done, bad, blocks)
        return Rows(torch.from_numpy(np.asarray(array)), bad)

    def _write(self, array: Any, done: int, bad: dict[int, str], blocks: Iterator[Block]) -> None:
        noted = time.monotonic()
        for block in blocks:
            stop = done + len(block.rows)
            array[done:stop] = block.rows.numpy() if block.rows.shape[1] else np.nan
            bad |= {done + i: reason for i, reason in block.bad.items()}
            done = stop
            if done == self.count or time.monotonic() - noted > SAVED_EVERY:
                self._note(array, done, bad)
                noted = time.monotonic()

    def _opened(self) -> tuple[Any, int, dict[int, str]]:
        """The rows of an earlier call, how many are there, and which are unreadable."""
        try:
            note = json.loads(self.notes.read_text("utf-8"))
            array = np.load(self.path, mmap_mode="r+" if note["done"] < self.count else "c")
            fits = array.dtype == np.float32 and array.shape == (self.count, note["dim"])
            if note["format"] == FORMAT and fits and array.ndim == 2:
                return array, note["done"], {int(i): reason for i, reason in note["bad"].items()}
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None, 0, {}

    def _allocated(self, dim: int) -> Any:
        """A new file with all of its space reserved: a full disk is noticed here, not in the middle."""
        self.notes.unlink(missing_ok=True)
        try:
            array = np.lib.format.open_memmap(self.path, "w+", np.float32, (self.count, dim))
            if hasattr(os, "posix_fallocate"):  # not on macOS
                with self.path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, self.path.stat().st_size)
        except OSError as error:
            logger.warning("embeddings are not kept, %s cannot be written: %s", self.path, error)
            self.path.unlink(missing_ok=True)
            return None
        return array

    def _note(self, array: Any, done: int, bad: dict[int, str]) -> None:
        """Says on disk how many rows are there; a disk that fails costs what is kept, not the evaluation."""
        note = {"format": FORMAT, "done": done, "dim": array.shape[1], "bad": bad}
        partial = self.notes.with_name(f".{self.notes.name}.part")
        try:
            array.flush()
            partial.write_text(json.dumps(note), encoding="utf-8")
            partial.replace(self.notes)
        except OSError as error:
            logger.warning("embeddings are not kept, %s cannot be written: %s", self.notes, error)


def _loaded(path: Path) -> Tensor | None:
    try:
        return torch.from_numpy(np.load(path, mmap_mode="c"))
    except (OSError, ValueError):
        return None


def _write(path: Path, rows: Tensor) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            np.save(file, rows.numpy(), allow_pickle=False)
        partial.replace(path)
    except OSError as error:
        logger.warning("embeddings are not kept, %s cannot be written: %s", path, error)
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether no other process works on a file; the claim ends with the process.

    Where claims are not possible (some network disks), nobody else is supposed.
    """
    try:
        file = path.open("w")
    except OSError as error:
        logger.warning("embeddings are not kept, %s cannot be written: %s", path, error)
        yield False
        return
    with file:
        mine = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mine = False
        except OSError as error:
            logger.info("%s cannot be locked: %s", path, error)
        yield mine
