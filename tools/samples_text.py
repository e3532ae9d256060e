"""Write the texts of the sample set: datasets.json, SOURCES.csv, LICENSES/ and README.md."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.samples_shards import Sample

SETS = {  # name -> (task, what it is)
    "train": ("train", "pairs to train on: emoji, clipart, 3D renders and a few photographs"),
    "zs_emoji": ("classification", "emoji of concepts seen in training, but not in this style"),
    "zs_emoji_novel": ("classification", "emoji of concepts never trained on in any style"),
    "zs_clipart": ("classification", "clipart by class"),
    "zs_furniture": ("classification", "3D renders of furniture"),
    "zs_photo": ("classification", "photographs, coarse classes"),
    "retrieval_mixed": ("retrieval", "photographs, clipart and renders, each with a caption of its own"),
    "retrieval_emoji_novel": (
        "retrieval",
        "emoji of concepts never trained on, each with a caption of its own",
    ),
    "zs_emoji_outline": (
        "classification under shift",
        "the classes of zs_emoji in black and white, a style never trained on",
    ),
    "scenes": (
        "retrieval, compositional",
        "composed scenes of two or three objects, with masks and captions that are wrong in one thing",
    ),
}
MADE = ("zs_emoji_outline", "scenes")
CREDITS = {  # source -> (creator where the image names none, address of the project)
    "npm:noto": ("Google Inc", "https://github.com/googlefonts/noto-emoji"),
    "npm:noto-v1": ("Google Inc", "https://github.com/googlefonts/noto-emoji"),
    "npm:twemoji": ("Twitter, Inc and other contributors", "https://github.com/jdecked/twemoji"),
    "npm:emojione": ("Emoji One", "https://github.com/EmojiTwo/emojitwo"),
    "npm:fxemoji": ("Mozilla", "https://github.com/mozilla/fxemoji"),
    "debian:openclipart-svg": ("", "https://openclipart.org"),
    "debian:sweethome3d-furniture": ("", "https://www.sweethome3d.com/importModels.jsp"),
    "debian:gcompris-qt-data": ("", "https://gcompris.net"),
    "debian:lomiri-wallpapers-16.04": ("", "https://gitlab.com/ubports/development/core/lomiri-wallpapers"),
    "npm:fluent-emoji-high-contrast": (
        "Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    "pypi:scikit-image": ("", "https://scikit-image.org/docs/stable/api/skimage.data.html"),
    "pypi:scikit-learn": ("", "https://scikit-learn.org"),
}
COLUMNS = ("key", "split", "set", "source", "licence", "creator", "caption", "url")
TEXTS = Path(__file__).parent / "samples_texts"
LICENCE_FILE = Path(__file__).parents[1] / "LICENSE"


def credit(source: str) -> tuple[str, str]:
    """Return the default creator and the address of a source package."""
    return CREDITS.get(source, ("", ""))


Sets = dict[str, "list[Sample]"]


def packages(samples: list[Sample]) -> list[str]:
    """Return the packages of samples, the most frequent first."""
    count = Counter(source for s in samples for source in s.source.split("; "))
    return [source.split(":", 1)[1] for source, _ in count.most_common()]


def entries(sets: Sets, splits: Sets, classes: dict[str, int | None]) -> list[dict[str, object]]:
    """Return one entry of datasets.json per set."""
    result: list[dict[str, object]] = []
    for name, samples in sets.items():
        task, what = SETS[name]
        entry = {"name": name, "what": what, "task": task, "images": len(samples), "classes": classes[name]}
        split = {"train_images": len(splits[name])} if name in splits else {}
        result.append({**entry, **split, "source": ", ".join(packages(samples))})
    return result


def sources_csv(sets: Sets, splits: Sets) -> str:
    """Return SOURCES.csv: one row for each image of each split of each set."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for name, samples in sets.items():
        split = "train" if name == "train" else "test"
        for part, listed in ((split, samples), ("train", splits.get(name, []))):
            for s in sorted(listed, key=lambda s: s.key):
                table.writerow((s.key, part, name, s.source, s.licence, s.creator, s.captions[0], s.url))
    return text.getvalue()


def count_table(sets: Sets, splits: Sets, classes: dict[str, int | None]) -> str:
    """Return the Markdown table of the sets."""
    rows = ["| set | what | images | classes |", "| --- | --- | --- | --- |"]
    for name, samples in sets.items():
        more = f" + {len(splits[name])} train" if name in splits else ""
        rows.append(f"| {name} | {SETS[name][1]} | {len(samples)}{more} | {classes[name] or ''} |")
    return "\n".join(rows)


def source_table(sets: Sets) -> str:
    """Return the Markdown table of sources and licences: each image once, and no scene."""
    images = {s.key: s for samples in sets.values() for s in samples if s.kind != "scene"}
    count = Counter((s.source, s.licence) for s in images.values())
    rows = ["| package | licence | images |", "| --- | --- | --- |"]
    rows += [f"| {source} | {licence} | {n} |" for (source, licence), n in sorted(count.items())]
    return "\n".join(rows)


def write_texts(
    out: Path, sets: Sets, splits: Sets, classes: dict[str, int | None]
) -> list[dict[str, object]]:
    """Write the texts of the set under ``out`` and return the entries of datasets.json."""
    listed = entries(sets, splits, classes)
    (out / "datasets.json").write_text(json.dumps(listed, indent=1) + "\n")
    (out / "SOURCES.csv").write_text(sources_csv(sets, splits))
    kinds = Counter(s.kind for s in sets["train"])
    told = {"sets": count_table(sets, splits, classes), "sources": source_table(sets)}
    told["kinds"] = ", ".join(f"{n} {kind}s" for kind, n in kinds.most_common())
    told["scenes"] = str(len(sets["scenes"]))
    readme = (TEXTS / "README.md").read_text()
    readme = re.sub(r"\{(\w+)\}", lambda found: told[found[1]], readme)
    (out / "README.md").write_text(readme)
    shutil.rmtree(out / "LICENSES", ignore_errors=True)
    shutil.copytree(TEXTS / "LICENSES", out / "LICENSES")
    apache = (TEXTS / "LICENSES" / "Apache-2.0.txt").read_text()
    (out / "LICENSES" / "Apache-2.0.txt").write_text(apache + "\n" + LICENCE_FILE.read_text())
    return listed
