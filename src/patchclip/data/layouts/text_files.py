"""The text files of an evaluation set, read whole up to a limit; errors name file, line and entry."""

import json
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from patchclip.errors import DataError

_TEXT_LIMIT = 64 << 20
_JSON_LIMIT = 1 << 30

T = TypeVar("T")
_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


def read_text(path: Path, rule: str, limit: int = _TEXT_LIMIT) -> str:
    """The UTF-8 text of a file.

    Args:
        path: Of the file.
        rule: What the file must hold, for the messages.
        limit: Largest size in bytes.

    Raises:
        DataError: It does not exist, is not UTF-8, or is larger than the limit.
    """
    try:
        with path.open("rb") as file:
            body = file.read(limit + 1)
        if len(body) > limit:
            raise DataError(f"{path} must hold {rule} and be at most {limit >> 20} MiB: it is larger")
        return body.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} must exist, UTF-8, with {rule}: {error}") from error


def read_lines(path: Path, rule: str) -> list[str]:
    """The lines of a list, stripped; line i of the file is item i - 1.

    Raises:
        DataError: The file cannot be read, is empty, or has an empty line before its last one.
    """
    lines = [line.strip() for line in read_text(path, rule).rstrip().splitlines()]
    if not lines:
        raise DataError(f"{path} must hold {rule}: it is empty")
    for number, line in enumerate(lines, 1):
        if not line:
            raise DataError(f"{path}, line {number}: it must hold {rule}, got an empty line: delete it")
    return lines


def read_templates(path: Path) -> tuple[str, ...]:
    """Prompts, one a line, each with "{c}" (or "{}") for the class name.

    Raises:
        DataError: The file cannot be read, or a line has no "{c}".
    """
    lines = read_lines(path, "one prompt with {c} a line")
    for number, line in enumerate(lines, 1):
        check_template(line, f"{path}, line {number}")
    return tuple(lines)


def check_template(text: str, place: str) -> None:
    """Raises DataError unless a prompt has a place for the class name."""
    if "{c}" not in text and "{}" not in text:
        raise DataError(f"{place}: it must contain {{c}}, where the class name goes, got {text!r}")


def read_json(path: Path, rule: str) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: It cannot be read, or is no JSON; the message has line and column.
    """
    text = read_text(path, rule, _JSON_LIMIT)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}, column {error.colno}: it must be JSON with {rule} ({error.msg})"
        ) from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: it must be JSON with {rule} ({error})") from error


def field(record: Any, key: str, kind: type[T], place: str) -> T:
    """The value of a key of an entry.

    Args:
        record: The entry as read.
        key: Its key.
        kind: The type the value must have.
        place: File and entry, for the messages.

    Raises:
        DataError: The entry is no object, lacks the key, or the value has another type.
    """
    if not isinstance(record, dict):
        raise DataError(f"{place}: it must be an object with the key {key!r}, got {_shown(record)}")
    if key not in record:
        keys = ", ".join(map(repr, record)) or "no key"
        raise DataError(f"{place}: it must have the key {key!r}, got {keys}")
    value = record[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DataError(f"{place}: {key!r} must be {_KINDS[kind]}, got {_shown(value)}")
    return value


def relative_name(name: str, place: str) -> str:
    """A file name inside a folder, with "/" between its parts.

    Raises:
        DataError: It is empty, absolute, or leaves the folder by "..".
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0].startswith("/") or ".." in parts or ":" in parts[0] or "\0" in name:
        raise DataError(
            f"{place}: a file name must be relative and stay inside the folder of the set, got {name!r}"
        )
    return "/".join(parts)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
