"""The geometry page as a file: whole, self-contained, escaped, and honest about what it lacks."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation.embedder import Encoding
from patchclip.report.geometry.report import Asked, write_geometry
from tests.report._runs import HOSTILE
from tests.report.geometry._tiny import encoder, write

ENCODING = Encoding(batch_size=4, threads=1)


class Tags(HTMLParser):
    """Tags that are open, and everything that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.fetched += [
            value for name, value in attrs if name in ("src", "href") and value and value[:5] != "data:"
        ]
        if tag not in ("meta", "link", "img", "line", "circle", "path", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_escaped(tmp_path: Path) -> None:
    asked = Asked("small", str(write(tmp_path / "sets")))
    found = write_geometry(encoder(), tmp_path / "out", asked, ENCODING)
    text = found.page.read_text("utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.fetched == []
    assert "script" not in tags.seen
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text
    for heading in ("Two modalities", "Shells", "Common and rare", "Heads and their words"):
        assert heading in text
    assert text.count("<svg") == 7
    assert text.count("data:image/webp") >= 12 + 2 * 5
    assert "prefers-color-scheme: dark" in text
    assert found.page == tmp_path / "out" / "report.html"


def test_the_figures_are_those_of_the_page(tmp_path: Path) -> None:
    asked = Asked("small", str(write(tmp_path / "sets")), count=8, seed=2)
    found = write_geometry(encoder(), tmp_path / "out", asked, ENCODING)
    figures = json.loads(found.figures.read_text("utf-8"))
    assert figures == json.loads(json.dumps(found.summary))
    assert (figures["pairs"], figures["width"]) == (8, 32)
    assert figures["settings"]["seed"] == 2
    gap = figures["analyses"]["modality_gap"]["centroid_distance"]
    assert f"{gap:.3f}" in found.page.read_text("utf-8")
    assert len(figures["images"]["spectrum"]) == 32
    assert len(figures["captions"]["most_likely"]) == 6
    assert {head["layer"] for head in figures["taken_apart"]["heads"]} == {0, 1}
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", figures["versions"]["torch"])


def test_a_tower_that_cannot_be_taken_apart_has_a_page_that_says_so(tmp_path: Path) -> None:
    asked = Asked("small", str(write(tmp_path / "sets")))
    found = write_geometry(encoder("resnet"), tmp_path / "out", asked, ENCODING)
    text = found.page.read_text("utf-8")
    assert "The image embedding cannot be taken apart: ModifiedResNet" in text
    assert "Heads and their words" not in text
    assert "The most likely images" in text
    assert found.summary["taken_apart"] is None


def test_own_words_describe_the_heads(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("alpha\n\nbeta\nbeta\ngamma\n", encoding="utf-8")
    asked = Asked("small", str(write(tmp_path / "sets")), words=words)
    found = write_geometry(encoder(), tmp_path / "out", asked, ENCODING).summary["taken_apart"]
    assert found["texts"] == 3
    assert {text for head in found["heads"] for text, _ in head["words"]} <= {"alpha", "beta", "gamma"}


def test_embeddings_of_a_set_are_kept_and_those_of_pairs_are_not(tmp_path: Path) -> None:
    root, cache = write(tmp_path / "sets"), tmp_path / "cache"
    encoding = Encoding(batch_size=4, threads=1, cache=cache)
    write_geometry(encoder(), tmp_path / "out", Asked("small", str(root)), encoding)
    assert list(cache.rglob("images-*"))
    kept = sorted(cache.rglob("*"))
    pairs = str(root / "small" / "test" / "0.tar")
    found = write_geometry(encoder(), tmp_path / "out", Asked(pairs, "samples"), encoding)
    assert found.summary["pairs"] == 9
    assert sorted(cache.rglob("*")) == kept


def test_what_cannot_be_written_or_read_is_said_before_any_work(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("\n \n")
    with pytest.raises(ConfigError, match="is a file: name a folder"):
        write_geometry(encoder(), file)
    with pytest.raises(DataError, match="holds no text"):
        write_geometry(encoder(), tmp_path / "out", Asked(words=file))
    with pytest.raises(DataError, match="cannot be read"):
        write_geometry(encoder(), tmp_path / "out", Asked(words=tmp_path / "none.txt"))
    assert not (tmp_path / "out").exists()
