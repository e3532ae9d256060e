"""What all pages share: their templates, and that a page is written whole."""

import os
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from patchclip.evaluation._saved import task_words
from patchclip.report import _numbers


def environment() -> Environment:
    """The templates of every page; everything that comes from data is escaped."""
    found = Environment(
        loader=PackageLoader("patchclip", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "percent": _numbers.percent,
        "count": _numbers.count,
        "duration": _numbers.duration,
        "task": task_words,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    return found


def write_page(path: Path, text: str) -> Path:
    """Writes a page whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path
