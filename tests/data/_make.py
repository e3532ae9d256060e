"""Tiny image-text data for the tests: pictures known by their colour, tars built member by member."""

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from patchclip.contracts import BadSample, Pair

Member = tuple[str, bytes]


def colour(number: int) -> tuple[int, int, int]:
    return ((5 * number + 60) % 256, (7 * number + 30) % 256, (31 * number + 90) % 256)


def encoded(number: int, kind: str = "png", side: int = 8) -> bytes:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour(number)).save(
        buffer, kind, **({"lossless": True} if kind == "webp" else {})
    )
    return buffer.getvalue()


def noisy(seed: int = 0, kind: str = "jpeg", side: int = 48) -> bytes:
    """A picture with content, whose file is long enough to be cut."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (side, side, 3), generator=generator, dtype=torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, kind)
    return buffer.getvalue()


def sample(number: int, captions: Sequence[str] | None = None, prefix: str = "s") -> list[Member]:
    """Image, .txt and, for several captions, .json of one sample."""
    texts = [f"picture {number}"] if captions is None else list(captions)
    key = f"{prefix}{number:03d}"
    members = [(f"{key}.png", encoded(number)), (f"{key}.txt", texts[0].encode() if texts else b"")]
    if len(texts) > 1:
        members.append((f"{key}.json", json.dumps({"captions": texts}).encode()))
    return members


def write_tar(path: Path, members: Iterable[Member], form: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return path


def shards(folder: Path, *counts: int) -> list[Path]:
    """Shards 000.tar, 001.tar, ... of so many samples each, numbered through."""
    paths, start = [], 0
    for number, count in enumerate(counts):
        members = [member for i in range(start, start + count) for member in sample(i)]
        paths.append(write_tar(folder / f"{number:03d}.tar", members))
        start += count
    return paths


class ListSource:
    """A source in memory; an entry is a tuple of captions, or a string: the reason why it is bad.

    Key and picture of entry i are those of the number `numbers[i]`, i itself at first.
    """

    def __init__(self, entries: Sequence[tuple[str, ...] | str], bad: Sequence[BadSample] = ()) -> None:
        self.entries = list(entries)
        self.numbers = list(range(len(self.entries)))
        self.bad = tuple(bad)
        self.bad_pairs = len(self.bad)
        self.captions: int | None = None
        self.reads = 0

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, i: int) -> Pair | BadSample:
        self.reads += 1
        entry = self.entries[i]
        if isinstance(entry, str):
            return BadSample(self.key(i), entry)
        return Pair(Image.new("RGB", (8, 8), colour(self.numbers[i])), entry, self.key(i))

    def key(self, i: int) -> str:
        return f"k{self.numbers[i]}"

    def texts(self, i: int) -> tuple[str, ...]:
        entry = self.entries[i]
        return () if isinstance(entry, str) else entry


class Bytes:
    """A tokenizer: the first 16 bytes of each caption."""

    def __call__(self, texts: list[str]) -> Tensor:
        return torch.tensor([list(text.encode()[:16].ljust(16)) for text in texts])


def read_captions(tokens: Tensor) -> list[str]:
    """What `Bytes` tokenised."""
    return [bytes(row).decode().rstrip() for row in tokens.tolist()]
