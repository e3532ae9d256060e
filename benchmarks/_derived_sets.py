"""Data sets for the comparison with clip_benchmark, made from those at hand, in the layouts that it reads.

A set with train, validation and test split (linear probe), one with several labels an image, and SugarCrepe's
folder. Images are copied byte by byte, so that both sides decode the same.
"""

import io
import re
import shutil
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

IMAGE = (".webp", ".png", ".jpg", ".jpeg")
SPLITS = ("test", "train", "train", "val", "train")
"""Split of the i-th image of a class, by i modulo 5."""

Samples = dict[str, dict[str, bytes]]


def samples(folder: Path) -> Samples:
    """Members of a set's test shards by key and extension; the image comes under "image"."""
    found: Samples = defaultdict(dict)
    count = int((folder / "test" / "nshards.txt").read_text("ascii"))
    for number in range(count):
        with tarfile.open(folder / "test" / f"{number}.tar") as shard:
            for member in shard:
                key, dot, kind = member.name.partition(".")
                file = shard.extractfile(member)
                if file is None:
                    continue
                found[key][dot + kind] = file.read()
    return dict(found)


def write_split(folder: Path, chosen: Samples, kinds: tuple[str, ...]) -> None:
    """Writes one shard with the members of the given kinds."""
    folder.mkdir(parents=True)
    (folder / "nshards.txt").write_text("1\n", encoding="ascii")
    with tarfile.open(folder / "0.tar", "w") as shard:
        for key, members in chosen.items():
            for kind in kinds:
                if kind in members:
                    info = tarfile.TarInfo(key + kind)
                    info.size = len(members[kind])
                    shard.addfile(info, io.BytesIO(members[kind]))


def copied(source: Path, target: Path, limit: int = 0) -> str:
    """A set as it is, or its first images only: returns its name."""
    if not limit:
        for file in source.rglob("*"):
            if file.is_file():
                place = target / file.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
        return target.name
    few = dict(list(samples(source).items())[:limit])
    write_split(target / "test", few, (*IMAGE, ".cls", ".txt"))
    for file in source.glob("*.txt"):
        shutil.copyfile(file, target / file.name)
    return target.name


def probe_set(source: Path, target: Path, limit: int = 0) -> str:
    """A classification set whose test images are dealt out, class by class, to train, val and test.

    Classes with fewer than five images are left out, and labels are numbered anew: every class is trained on.
    """
    by_class: dict[int, Samples] = defaultdict(dict)
    for key, members in samples(source).items():
        by_class[int(members[".cls"])][key] = members
    large = [label for label in sorted(by_class) if len(by_class[label]) >= len(SPLITS)]
    names = (source / "classnames.txt").read_text("utf-8").splitlines()
    splits: dict[str, Samples] = {name: {} for name in SPLITS}
    most = max(len(SPLITS), limit // max(1, len(large))) if limit else None
    for number, label in enumerate(large):
        for i, (key, members) in enumerate(list(by_class[label].items())[:most]):
            splits[SPLITS[i % len(SPLITS)]][key] = members | {".cls": str(number).encode("ascii")}
    for split, chosen in splits.items():
        write_split(target / split, chosen, (*IMAGE, ".cls"))
    (target / "classnames.txt").write_text("\n".join(names[i] for i in large) + "\n", encoding="utf-8")
    templates = "zeroshot_classification_templates.txt"
    shutil.copyfile(source / templates, target / templates)
    return target.name


def probed(sets: list[Path]) -> Path:
    """The set with the most images in classes large enough for `probe_set`."""

    def images(folder: Path) -> int:
        counts = Counter(int(members[".cls"]) for members in samples(folder).values())
        return sum(count for count in counts.values() if count >= len(SPLITS))

    return max(sets, key=images)


def multilabel_set(source: Path, target: Path, classes: int = 20) -> str:
    """A captioned set with its most frequent words (four letters or more) as labels."""
    found = samples(source)
    words = {
        key: set(re.findall(r"[a-z]{4,}", s[".txt"].decode("utf-8").lower())) for key, s in found.items()
    }
    counts = Counter(word for each in words.values() for word in each)
    names = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:classes]]
    for key, members in found.items():
        labels = io.BytesIO()
        np.save(labels, np.array([name in words[key] for name in names], dtype=np.int64))
        members[".npy"] = labels.getvalue()
    write_split(target / "test", found, (*IMAGE, ".npy"))
    (target / "dataset_type.txt").write_text("multilabel\n", encoding="utf-8")
    (target / "classnames.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (target / "zeroshot_classification_templates.txt").write_text("a picture of a {c}\n", encoding="utf-8")
    return target.name


def kinds_of(root: Path) -> dict[str, list[Path]]:
    """The webdataset folders under a root, by what their dataset_type.txt says."""
    found: dict[str, list[Path]] = {"classification": [], "retrieval": []}
    for folder in sorted(path.parent.parent for path in root.glob("*/test/nshards.txt")):
        kind = folder / "dataset_type.txt"
        name = kind.read_text("utf-8").strip() if kind.is_file() else "classification"
        found.setdefault(name, []).append(folder)
    return found


def sugar_crepe(source: Path, target: Path) -> list[str]:
    """A set of scenes in SugarCrepe's folder (val2017 and a file a kind): returns the kinds."""
    (target / "val2017").mkdir(parents=True)
    for key, members in samples(source).items():
        for kind in IMAGE:
            if kind in members:
                (target / "val2017" / f"{key}{kind}").write_bytes(members[kind])
    kinds = []
    for file in sorted((source / "compositional").glob("*.json")):
        shutil.copyfile(file, target / file.name)
        kinds.append(file.stem)
    return kinds
