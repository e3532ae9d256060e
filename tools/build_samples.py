"""Select the permissively licensed part of the larger pair set and write the sample set of the package.

    python -m tools.build_samples --source DIR --cache CACHE [--out src/patchclip/data/samples]

DIR is what ``python -m tools.pairset`` wrote, CACHE the folder it downloaded to. The output has the same
bytes at every build.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.samples_fixes import fixed
from tools.samples_more import PROBED, SHIFT, SOURCE, TWIN, outlined, write_shift, write_split
from tools.samples_shards import Sample, order, write_shard
from tools.samples_text import MADE, SETS, credit, write_texts
from tools.scenes import scenes, write_scenes

SHARD = 2000
MIN_PHOTOS = 24
LICENCES = {
    "public domain": "public-domain",
    "public domain dedication": "public-domain",
    "cc0-1.0": "CC0-1.0",
    "cc-by-2.0": "CC-BY-2.0",
    "cc-by-3.0": "CC-BY-3.0",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by 4.0": "CC-BY-4.0",
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "unicode-3.0": "Unicode-3.0",
}
STYLE = re.compile(r"^a (photo|drawing|clipart drawing|3d render|flat emoji) of ")
NOVEL = ("zs_emoji_novel", "retrieval_emoji_novel")


def read(path: Path) -> Iterator[Sample]:
    """Yield the samples of one shard that have a permissive licence and a caption."""
    files: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as shard:
        for member in shard:
            key, extension = member.name.split(".", 1)
            data = shard.extractfile(member)
            if data is not None:
                files.setdefault(key, {})[extension] = data.read()
    for key, parts in files.items():
        meta = json.loads(parts["json"])
        licence = LICENCES.get(meta["licence"].lower())
        captions = fixed(key, meta["captions"], meta["class"])
        if licence is None or not captions:
            continue
        creator, url = credit(meta["source"])
        yield Sample(
            key=key,
            image=parts["webp"],
            captions=tuple(captions),
            source=meta["source"],
            licence=licence,
            creator=meta.get("creator") or creator,
            url=meta.get("url") or url,
            kind=meta["kind"],
            label=meta["class"],
        )


def without_twins(samples: Iterable[Sample], taken: set[str]) -> list[Sample]:
    """Drop pictures whose pixels are taken; of equal pictures the one with the shortest caption stays."""
    kept = []
    seen = set(taken)
    for sample in sorted(samples, key=lambda s: (len(s.captions[0]), s.key)):
        if sample.pixels not in seen:
            seen.add(sample.pixels)
            kept.append(sample)
    return sorted(kept, key=lambda s: order(s.key))


def unique_captions(samples: list[Sample]) -> list[Sample]:
    """Keep the samples that no other one resembles in its words: retrieval has one right answer."""
    things = {s.key: STYLE.sub("", s.captions[0].lower()) for s in samples}
    count = Counter(things.values())
    return [s for s in samples if count[things[s.key]] == 1]


def test_sets(source: Path, trained: set[str]) -> dict[str, list[Sample]]:
    """Return the permissive part of each evaluation set, without classes that training never shows."""
    sets: dict[str, list[Sample]] = {}
    for name in SETS:
        if name == "train" or name in MADE:
            continue
        samples = list(read(source / "test" / name / "test" / "0.tar"))
        if name == "retrieval_mixed":
            extra = source / "extra" / "photos-000.tar"
            samples += list(read(extra)) if extra.exists() else []
        if name.startswith("retrieval"):
            samples = unique_captions(samples)
        elif name not in NOVEL:
            samples = [s for s in samples if s.label in trained]
        if name == "zs_photo" and len(samples) < MIN_PHOTOS:
            continue
        sets[name] = sorted(samples, key=lambda s: s.key)
    return sets


def write_set(folder: Path, samples: list[Sample], templates: Path) -> int | None:
    """Write one evaluation set in the clip_benchmark layout and return its number of classes."""
    labels = None if folder.name.startswith("retrieval") else sorted({s.label for s in samples})
    write_shard(folder / "test" / "0.tar", samples, labels)
    (folder / "test" / "nshards.txt").write_text("1\n")
    if labels is None:
        (folder / "dataset_type.txt").write_text("retrieval\n")
        return None
    (folder / "classnames.txt").write_text("\n".join(labels) + "\n")
    shutil.copyfile(templates, folder / "zeroshot_classification_templates.txt")
    return len(labels)


def made_of(
    out: Path, cache: Path, train: list[Sample], sets: dict[str, list[Sample]]
) -> tuple[dict[str, list[Sample]], dict[str, list[Sample]]]:
    """Write the sets made of others; return them, and the training splits for linear probes."""
    drawn = outlined(cache, sets[TWIN], *credit(SOURCE))
    write_shift(out / "test", drawn)
    splits = {name: write_split(out / "test" / name, train, sets[name]) for name in PROBED if name in sets}
    tested = {s.key: s for samples in sets.values() for s in samples}
    composed = list(scenes(tested, {s.key: s for s in train}))
    return {SHIFT: drawn, "scenes": write_scenes(out / "test" / "scenes", composed)}, splits


def build(source: Path, cache: Path, out: Path) -> list[dict[str, object]]:
    """Write the sample set to ``out``, replacing what is there, and return the entries of datasets.json."""
    pairs = [s for path in sorted((source / "train").glob("pairs-*.tar")) for s in read(path)]
    sets = test_sets(source, {s.label for s in pairs if s.label})
    train = without_twins(pairs, {s.pixels for samples in sets.values() for s in samples})
    for folder in ("train", "test"):
        shutil.rmtree(out / folder, ignore_errors=True)
    for start in range(0, len(train), SHARD):
        write_shard(out / "train" / f"pairs-{start // SHARD:03d}.tar", train[start : start + SHARD])
    classes: dict[str, int | None] = {"train": None}
    for name, samples in sets.items():
        templates = source / "test" / name / "zeroshot_classification_templates.txt"
        classes[name] = write_set(out / "test" / name, samples, templates)
    made, splits = made_of(out, cache, train, sets)
    classes |= {SHIFT: classes[TWIN], "scenes": None}
    return write_texts(out, {"train": train, **sets, **made}, splits, classes)


def main() -> None:
    """Build from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder written by tools.pairset")
    parser.add_argument("--cache", type=Path, required=True, help="its folder of downloads")
    parser.add_argument("--out", type=Path, default=Path("src/patchclip/data/samples"))
    options = parser.parse_args()
    for entry in build(options.source, options.cache, options.out):
        print(json.dumps(entry))


if __name__ == "__main__":
    main()
