"""Text files of a set."""

from pathlib import Path
from typing import Any

import pytest

from patchclip.data.layouts import text_files
from patchclip.data.layouts.text_files import (
    field,
    read_json,
    read_lines,
    read_templates,
    read_text,
    relative_name,
)
from patchclip.errors import DataError


def test_text_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffein Bär\r\n zwei \n\n\n".encode())
    assert read_lines(path, "names") == ["ein Bär", "zwei"]
    path.write_text("\na\n")
    with pytest.raises(DataError, match=r"a.txt, line 1: it must hold names, got an empty line"):
        read_lines(path, "names")
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"a.txt must exist, UTF-8, with names"):
        read_text(path, "names")
    path.write_bytes(b"x" * 11)
    assert read_text(path, "names", 11) == "x" * 11
    with pytest.raises(DataError, match=r"a.txt must hold names and be at most 0 MiB: it is larger"):
        read_text(path, "names", 10)


def test_templates(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("a {c}\na {}\n")
    assert read_templates(path) == ("a {c}", "a {}")
    path.write_text("a {c}\na {d}\n")
    with pytest.raises(DataError, match=r"t.txt, line 2: it must contain \{c\}.* got 'a \{d\}'"):
        read_templates(path)


@pytest.mark.parametrize(
    "text, place", [('{"a":\n 1,}', "line 2, column"), ("", "line 1, column 1"), ("[" * 99999, "")]
)
def test_what_is_no_json_is_placed(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"a.json.*{place}.* it must be JSON with rows"):
        read_json(path, "rows")


def test_a_large_json_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_JSON_LIMIT", 8)
    (tmp_path / "a.json").write_text("[1, 2, 3, 4]")
    with pytest.raises(DataError, match="it is larger"):
        read_json(tmp_path / "a.json", "rows")


@pytest.mark.parametrize(
    "record, kind, message",
    [
        ([], str, r"p: it must be an object with the key 'k', got \[\]"),
        ({"x": 1}, str, "p: it must have the key 'k', got 'x'"),
        ({}, str, "got no key"),
        ({"k": 1}, str, "'k' must be text, got 1"),
        ({"k": True}, int, "'k' must be a whole number, got True"),
        ({"k": "x" * 99}, list, r"'k' must be a list, got 'x+\.\.\."),
    ],
)
def test_fields_are_checked(record: Any, kind: type, message: str) -> None:
    assert field({"k": kind()}, "k", kind, "p") == kind()
    with pytest.raises(DataError, match=message):
        field(record, "k", kind, "p")


def test_names_stay_inside() -> None:
    assert relative_name("a/./b.png", "p") == "a/b.png"
    assert relative_name("a\\b.png", "p") == "a/b.png"
    for name in ("", "/a", "..", "a/../../b", "\\\\host\\a", "C:\\a", "a\0"):
        with pytest.raises(DataError, match="p: a file name must be relative and stay inside"):
            relative_name(name, "p")
