"""Samples with their captions and origin, and the shards that hold them; equal input gives equal bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Sample:
    """One image with its captions and where it comes from.

    Attributes:
        files: ending -> bytes of further files beside the image.
        notes: further entries of its json.
    """

    key: str
    image: bytes
    captions: tuple[str, ...]
    source: str
    licence: str
    creator: str
    url: str
    kind: str
    label: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    notes: Mapping[str, object] = field(default_factory=dict)

    @property
    def pixels(self) -> str:
        """Hash of the RGB pixels: equal pictures have equal hashes, whatever their file."""
        image = Image.open(io.BytesIO(self.image)).convert("RGB")
        return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def order(key: str) -> str:
    """Sort key that mixes the sources and does not depend on any generator."""
    return hashlib.sha1(key.encode()).hexdigest()


def add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add one member with fixed owner, mode and time."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    shard.addfile(info, io.BytesIO(data))


def write_shard(path: Path, samples: Iterable[Sample], labels: list[str] | None = None) -> None:
    """Write one webdataset shard; with ``labels`` each sample gets its class number as ``.cls``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
        for s in samples:
            meta = {"captions": s.captions, "source": s.source, "licence": s.licence}
            meta |= {"creator": s.creator, "kind": s.kind, "class": s.label, **s.notes}
            text = json.dumps({k: v for k, v in meta.items() if v}, ensure_ascii=False, separators=(",", ":"))
            add(shard, s.key + ".webp", s.image)
            add(shard, s.key + ".txt", s.captions[0].encode())
            add(shard, s.key + ".json", text.encode())
            for ending, data in s.files.items():
                add(shard, f"{s.key}.{ending}", data)
            if labels is not None:
                add(shard, s.key + ".cls", str(labels.index(s.label)).encode())
