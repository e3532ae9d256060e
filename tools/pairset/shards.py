"""Write webdataset shards and evaluation sets; equal input gives equal bytes."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import Any

import numpy as np
from PIL import Image
from tools.pairset.images import flatten
from tools.pairset.records import Rec, h01

SHARD = 2000


def add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add one member with fixed owner, mode and time."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    shard.addfile(info, io.BytesIO(data))


def webp(image: Image.Image, quality: int = 80, alpha: bool = False) -> bytes:
    """Encode as WebP; with alpha the colours are laid on white, so that convert('RGB') is clean."""
    file = io.BytesIO()
    if alpha:
        pixels = np.asarray(image.convert("RGBA")).astype(np.float32)
        weight = pixels[..., 3:] / 255
        pixels[..., :3] = pixels[..., :3] * weight + 255 * (1 - weight)
        mixed = Image.fromarray(np.round(pixels).astype(np.uint8), "RGBA")
        mixed.save(file, "WEBP", quality=quality, method=5, exact=True)
    else:
        image.convert("RGB").save(file, "WEBP", quality=quality, method=5)
    return file.getvalue()


def unmix(image: Image.Image) -> Image.Image:
    """Return the cut-out of a stored image with alpha, whose colours were laid on white."""
    pixels = np.asarray(image.convert("RGBA")).astype(np.float32)
    weight = np.maximum(pixels[..., 3:] / 255, 0.08)
    pixels[..., :3] = np.clip((pixels[..., :3] - 255 * (1 - weight)) / weight, 0, 255)
    return Image.fromarray(np.round(pixels).astype(np.uint8), "RGBA")


def _meta(rec: Rec, split: str) -> bytes:
    meta: dict[str, Any] = {"captions": rec.captions, "source": rec.source, "licence": rec.licence}
    meta |= {"split": split, "kind": rec.kind, "category": rec.category, "class": rec.cls}
    meta |= {k: getattr(rec, k) for k in ("style", "noun", "alpha") if getattr(rec, k)}
    meta |= {k: v for k, v in rec.extra.items() if v and k != "i18n"}
    return json.dumps(meta, ensure_ascii=False, separators=(",", ":")).encode()


def add_rec(shard: tarfile.TarFile, rec: Rec, split: str, label: int | None = None) -> None:
    """Add the members of one record: .webp, .txt, .json and perhaps .cls."""
    image = rec.image if rec.alpha else flatten(rec.image)
    add(shard, rec.key + ".webp", webp(image, 80, rec.alpha))
    add(shard, rec.key + ".txt", rec.captions[0].encode())
    add(shard, rec.key + ".json", _meta(rec, split))
    if label is not None:
        add(shard, rec.key + ".cls", str(label).encode())


def write_shards(folder: str, name: str, recs: list[Rec], split: str) -> int:
    """Write ``name``-000.tar and so on; return the number of records."""
    os.makedirs(folder, exist_ok=True)
    recs = sorted(recs, key=lambda r: h01(r.key, "order"))
    for start in range(0, len(recs), SHARD):
        path = os.path.join(folder, f"{name}-{start // SHARD:03d}.tar")
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
            for rec in recs[start : start + SHARD]:
                add_rec(shard, rec, split)
    return len(recs)


def write_text(text: str, *path: str) -> None:
    """Write a text file, with the folders it needs."""
    file = os.path.join(*path)
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "w", encoding="utf8") as out:
        out.write(text)


def write_set(folder: str, recs: list[Rec], templates: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Write one evaluation set in the clip_benchmark layout and return its counts."""
    recs = sorted(recs, key=lambda r: r.key)
    classes = sorted({r.cls for r in recs}) if templates else None
    if templates and classes:
        write_text("\n".join(classes) + "\n", folder, "classnames.txt")
        write_text("\n".join(templates) + "\n", folder, "zeroshot_classification_templates.txt")
    else:
        write_text("retrieval\n", folder, "dataset_type.txt")
    write_text("1\n", folder, "test", "nshards.txt")
    with tarfile.open(os.path.join(folder, "test", "0.tar"), "w", format=tarfile.USTAR_FORMAT) as shard:
        for rec in recs:
            add_rec(shard, rec, "test", classes.index(rec.cls) if classes else None)
    captions = len({r.captions[0] for r in recs})
    return {"images": len(recs), "classes": len(classes) if classes else None, "captions": captions}
