"""A geometry report in one call: embeddings, analyses, heads, page."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchclip.errors import ConfigError, DataError, PatchclipError
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.models.towers import ClipEncoder
from patchclip.report._page import environment, write_page
from patchclip.report.geometry.heads import TakenApart, take_apart, vocabulary
from patchclip.report.geometry.measure import Measured, measure, unit
from patchclip.report.geometry.page import Shown, context, summary
from patchclip.report.geometry.pictures import Heat, Thumbnails, heats
from patchclip.report.geometry.source import Captioned, open_captioned

HEATS = 5


@dataclass(frozen=True)
class Asked:
    """What a geometry report is made of.

    Args:
        data: name of a retrieval set under the root, or image-text pairs as training takes them.
        root: folder of sets, or "samples".
        count: pairs at most.
        seed: of the sample of pairs.
        words: a text file with one text a line, which heads are described by; None for the captions' nouns.
    """

    data: str = "retrieval_mixed"
    root: str = "samples"
    count: int = 2000
    seed: int = 0
    words: Path | None = None


@dataclass(frozen=True)
class Written:
    """Paths of the page and of its figures, and the figures."""

    page: Path
    figures: Path
    summary: dict[str, Any]


def write_geometry(
    encoder: ClipEncoder, output: str | Path, asked: Asked | None = None, encoding: Encoding | None = None
) -> Written:
    """Writes report.html and geometry.json: how the embeddings of a model lie, and what they are made of.

    The page is self-contained: nothing is fetched and no script runs. A tower that cannot be taken apart has
    a page without heads and heat maps, which says why.

    Args:
        encoder: the model.
        output: folder, made where it is missing.
        asked: the pairs, and words for the heads.
        encoding: batch size, cache and progress.

    Raises:
        ConfigError: a count below 8, an output that is a file.
        DataError: no such set or pairs, fewer than 8 pairs, an empty file of words.
    """
    asked = asked or Asked()
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={str(folder)!r} is a file: name a folder")
    given = _words(asked.words)
    data = open_captioned(asked.data, asked.root, asked.count, asked.seed)
    encoding = encoding or Encoding()
    if not data.kept:  # nothing says when the files behind pairs have changed
        encoding = Encoding(encoding.batch_size, None, encoding.threads, encoding.on_progress)
    embedder = Embedder(encoder.raw(), encoding)
    measured = measure(embedder, data)
    apart, shown_heats, missing = _parts(embedder, data, measured, given)
    thumbnails = Thumbnails(data, measured.rows)
    shown = Shown(encoder.name, data.name, measured, apart, shown_heats, missing, thumbnails)
    found = summary(shown, {"count": asked.count, "seed": asked.seed, "data_root": asked.root})
    text = environment().get_template("geometry_report.html").render(context(shown))
    folder.mkdir(parents=True, exist_ok=True)
    figures = write_page(folder / "geometry.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    return Written(write_page(folder / "report.html", text), figures, found)


def _parts(
    embedder: Embedder, data: Captioned, measured: Measured, words: list[str]
) -> tuple[TakenApart | None, tuple[Heat, ...], str]:
    """Heads, heat maps, and why there are none."""
    try:
        texts = words or vocabulary(measured.captions)
        apart = take_apart(embedder, data, measured.image.rows, measured.rows, texts)
        chosen = _drawn(len(measured))
        directions = unit(measured.text.rows)
        directions = directions[chosen] - directions.mean(dim=0)
        rows = [measured.rows[i] for i in chosen]
        captions = [measured.captions[i] for i in chosen]
        return apart, tuple(heats(embedder.encoder, data, rows, captions, directions)), ""
    except PatchclipError as error:
        return None, (), str(error)


def _drawn(total: int) -> list[int]:
    """Rows whose heat is shown: drawn, not chosen by success."""
    return sorted(random.Random(0).sample(range(total), min(HEATS, total)))


def _words(file: Path | None) -> list[str]:
    """The lines of a file, empty ones left out."""
    if file is None:
        return []
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}): name a UTF-8 file with a text a line") from error
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise DataError(f"{file} holds no text: heads are described by its lines")
    return found
