"""Evaluation sets made of the others: a shifted style of zs_emoji, training splits for linear probes."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tools.pairset.images import flatten, svg, trim
from tools.pairset.shards import webp
from tools.pairset.words import art
from tools.samples_shards import Sample, order, write_shard

SHIFT, TWIN = "zs_emoji_outline", "zs_emoji"
PACKAGE = "@iconify-json/fluent-emoji-high-contrast@1.2.6"
SOURCE, LICENCE = "npm:fluent-emoji-high-contrast", "MIT"
SIDE = 112
PROBED = {"zs_clipart": "clip_", "zs_furniture": "model_"}  # set -> start of the keys of its training pairs
PER_CLASS = 36
THUMBNAIL = 24
ALIKE = 4.0  # mean difference of the grey levels (0 to 255) below which pictures are near-duplicates


def fetched(cache: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return code points -> icon name and icon name -> SVG body; npm fetches the package if need be."""
    folder = cache / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (PACKAGE.replace("/", "-").replace("@", "-").strip("-") + ".tgz")
    if not path.exists():
        subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
    with tarfile.open(path) as package:
        chars, icons = (_json(package, name) for name in ("chars.json", "icons.json"))
    plain = {"-".join(c for c in code.split("-") if c != "fe0f"): name for code, name in chars.items()}
    return plain, {name: icon["body"] for name, icon in icons["icons"].items()}


def _json(package: tarfile.TarFile, name: str) -> dict[str, Any]:
    file = package.extractfile("package/" + name)
    if file is None:
        raise FileNotFoundError(f"{PACKAGE} has no {name}")
    return json.load(file)


def outlined(cache: Path, twin: list[Sample], creator: str, url: str) -> list[Sample]:
    """Return one black and white drawing of each concept of ``twin`` that the package has."""
    names, bodies = fetched(cache)
    fonts = cache / "no-fonts"  # the drawings have no text
    fonts.mkdir(exist_ok=True)
    found = {}
    for sample in twin:
        code = sample.key.split("_")[2]
        body = bodies.get(names.get(code, ""))
        if body is None or code in found:
            continue
        drawn = svg(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{body}</svg>', 2 * SIDE, str(fonts)
        )
        image = drawn and trim(drawn, SIDE)
        if image is None:
            raise ValueError(f"{names[code]} of {PACKAGE} cannot be drawn")
        caption = f"a black and white drawing of {art(sample.label)}"
        found[code] = Sample(
            *(f"emoji_fluent_{code}", webp(flatten(image), 80), (caption,), SOURCE, LICENCE, creator, url),
            *("icon", sample.label),
        )
    return sorted(found.values(), key=lambda s: s.key)


def write_shift(out: Path, samples: list[Sample]) -> None:
    """Write the shifted set with the class list and the prompts of its twin."""
    folder, twin = out / SHIFT, out / TWIN
    labels = (twin / "classnames.txt").read_text().splitlines()
    write_shard(folder / "test" / "0.tar", samples, labels)
    (folder / "test" / "nshards.txt").write_text("1\n")
    (folder / "shift_of.txt").write_text(TWIN + "\n")
    for name in ("classnames.txt", "zeroshot_classification_templates.txt"):
        shutil.copyfile(twin / name, folder / name)


def thumbnail(sample: Sample) -> np.ndarray:
    """Return a picture as 24 x 24 grey levels."""
    grey = Image.open(io.BytesIO(sample.image)).convert("RGB").convert("L")
    return np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR), np.float32)


def without_near_duplicates(pairs: list[Sample], tested: list[Sample]) -> list[Sample]:
    """Drop pictures whose thumbnail is that of a test picture, plain or mirrored."""
    plain = np.stack([thumbnail(s) for s in tested])
    both = np.concatenate([plain, plain[:, :, ::-1]])
    return [s for s in pairs if np.abs(both - thumbnail(s)).mean((1, 2)).min() >= ALIKE]


def write_split(folder: Path, pairs: list[Sample], tested: list[Sample]) -> list[Sample]:
    """Write ``train/`` of a set and return it: of each class at most ``PER_CLASS`` training pairs.

    Near-duplicates of the set's test pictures are left out: views of one model, versions of one drawing.
    """
    labels = (folder / "classnames.txt").read_text().splitlines()
    start = PROBED[folder.name]
    usable = without_near_duplicates([s for s in pairs if s.key.startswith(start)], tested)
    chosen = []
    for label in labels:
        same = [s for s in usable if s.label == label]
        chosen += sorted(same, key=lambda s: order(s.key))[:PER_CLASS]
    chosen.sort(key=lambda s: s.key)
    write_shard(folder / "train" / "0.tar", chosen, labels)
    (folder / "train" / "nshards.txt").write_text("1\n")
    return chosen
