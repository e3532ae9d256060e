"""Read Qt resource files and the README files in them that state the licence of each image."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import struct
import zlib
from typing import NamedTuple


def read_rcc(path: str) -> dict[str, bytes]:
    """Return path -> contents of a Qt resource file.

    Raises:
        ValueError: when the file does not start with 'qres'.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data[:4] != b"qres":
        raise ValueError(f"{path} must be a Qt resource file (starts with 'qres'), got {data[:4]!r}")
    version, tree, blobs, names = struct.unpack(">IIII", data[4:20])
    size, out = (14 if version < 2 else 22), {}

    def walk(index: int, prefix: str) -> None:
        node = tree + index * size
        offset, flags = struct.unpack(">IH", data[node : node + 6])
        name = names + offset
        length = struct.unpack(">H", data[name : name + 2])[0] if index else 0
        here = prefix
        if index:
            here += "/" + data[name + 6 : name + 6 + 2 * length].decode("utf-16-be")
        if flags & 2:
            count, first = struct.unpack(">II", data[node + 6 : node + 14])
            for child in range(first, first + count):
                walk(child, here)
        elif not flags & 4:
            start = blobs + struct.unpack(">I", data[node + 10 : node + 14])[0]
            end = start + 4 + struct.unpack(">I", data[start : start + 4])[0]
            out[here] = zlib.decompress(data[start + 8 : end]) if flags & 1 else data[start + 4 : end]

    walk(0, "")
    return out


class Rights(NamedTuple):
    """Licence, creator and address of one image."""

    licence: str
    creator: str
    url: str


def _paragraph(text: str) -> tuple[Rights, list[str]]:
    """Return the rights of one paragraph of a README and the names of the files it holds for.

    File names are the lines without a field; some paragraphs lack the line 'Files:'.
    """
    fields = dict(re.findall(r"^(Copyright|License|Source|Comment): *(.+?)\s*$", text, re.M))
    creator = fields.get("Copyright", "")
    if fields.get("Comment"):
        creator += "; " + fields["Comment"]
    names = [line.strip() for line in text.splitlines() if not re.match(r"\w+:", line)]
    rights = Rights(fields.get("License", ""), creator, fields.get("Source", ""))
    return rights, [n for n in names if n]


def rights(files: dict[str, bytes]) -> dict[str, Rights]:
    """Return path -> rights for every file of a resource file that a README beside or above it names."""
    found: dict[str, Rights] = {}
    for readme in (p for p in sorted(files) if posixpath.basename(p) == "README"):
        for text in re.split(r"\n\s*\n", files[readme].decode("utf8", "replace")):
            terms, names = _paragraph(text.strip() + "\n")
            for name in names:
                pattern = posixpath.join(posixpath.dirname(readme), name)
                found.update({p: terms for p in files if fnmatch.fnmatchcase(p, pattern)})
    return found
