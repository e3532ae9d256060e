"""A method is found by family and file name, and its constructor is its schema."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from patchclip import registry
from patchclip.errors import ConfigError, TowerError

METHOD = '''"""Module text."""
from dataclasses import dataclass
from patchclip.errors import TowerError
import json

class _Hidden: pass

@dataclass(frozen=True)
class EdgeMask:
    """Keeps edges. Then a second sentence.

    Source: Someone et al.,
    "A title", 2024, arXiv 1.2.
    Differs: in nothing.
    """
    ratio: float = 0.5
    steps: tuple[int, ...] = (1, 2)
'''


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A family `toys` in a package of its own, with the method `edge`."""
    package = tmp_path / "toybox"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "edge.py").write_text(METHOD)
    (package / "_shared.py").write_text("raise SystemExit('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.FAMILIES, "toys", "toybox")
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] in ("toybox", "outside")]:
        del sys.modules[name]


def add_entry_point(folder: Path, line: str) -> None:
    info = folder / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[patchclip.toys]\n{line}\n")


def test_names_are_file_names_without_helpers_and_import_nothing(toys: Path) -> None:
    (toys / "broken.py").write_text("this is not Python")
    assert registry.names("toys") == ["broken", "edge"]
    assert "toybox.edge" not in sys.modules


def test_a_new_file_is_a_new_method(toys: Path) -> None:
    (toys / "blob.py").write_text("class BlobMask:\n    '''Keeps blobs.'''\n")
    assert "blob" in registry.names("toys")
    assert type(registry.build("toys", "blob")).__name__ == "BlobMask"


def test_load_gives_the_one_public_class(toys: Path) -> None:
    assert registry.load("toys", "edge").__name__ == "EdgeMask"


@pytest.mark.parametrize("text", ["", "class A: pass\nclass B: pass\n"], ids=["none", "two"])
def test_a_file_without_exactly_one_public_class_is_refused(toys: Path, text: str) -> None:
    (toys / "odd.py").write_text(text)
    with pytest.raises(ConfigError, match=r"exactly one public class: toybox.odd defines"):
        registry.load("toys", "odd")


def test_unknown_names_are_answered_with_the_nearest_and_the_list(toys: Path) -> None:
    with pytest.raises(ConfigError, match="no 'egde' among the toys; did you mean 'edge'\\? Known: edge"):
        registry.load("toys", "egde")
    with pytest.raises(ConfigError, match="no family 'toy'; did you mean 'toys'"):
        registry.names("toy")


def test_build_passes_options_and_turns_lists_into_tuples(toys: Path) -> None:
    built = registry.build("toys", "edge", ratio=0.3, steps=[1, [2, 3]])
    assert (built.ratio, built.steps) == (0.3, (1, (2, 3)))


def test_build_refuses_unknown_options(toys: Path) -> None:
    with pytest.raises(
        ConfigError, match="toys/edge has no option 'ration'; did you mean 'ratio'\\? Known: r"
    ):
        registry.build("toys", "edge", ration=0.3)


def test_build_refuses_missing_options_but_accepts_open_signatures(toys: Path) -> None:
    (toys / "free.py").write_text("class Free:\n    def __init__(self, a, **rest): self.got = (a, rest)\n")
    with pytest.raises(ConfigError, match="toys/free needs the option 'a', got b=1"):
        registry.build("toys", "free", b=1)
    assert registry.build("toys", "free", a=1, b=2).got == (1, {"b": 2})


def test_type_errors_become_configuration_errors_and_our_own_errors_pass(toys: Path) -> None:
    (toys / "strict.py").write_text(
        "from patchclip.errors import TowerError\n"
        "class Strict:\n    def __init__(self, size=1):\n"
        "        if size == 0: raise TowerError('no tower')\n        self.size = size + 1\n"
    )
    with pytest.raises(ConfigError, match="toys/strict refuses the options size='x': can only concat"):
        registry.build("toys", "strict", size="x")
    with pytest.raises(TowerError, match="no tower"):
        registry.build("toys", "strict", size=0)


def test_a_missing_package_is_named_with_its_install_line(toys: Path) -> None:
    (toys / "needy.py").write_text("import not_there.at_all\nclass Needy: pass\n")
    with pytest.raises(
        ConfigError, match=r"toys/needy needs the package 'not_there', .*pip install not-there"
    ):
        registry.load("toys", "needy")


def test_install_lines_name_our_extras() -> None:
    assert registry.install_line("wandb.sdk") == "pip install 'patchclip[wandb]'"
    assert registry.install_line("datasets") == "pip install 'patchclip[hf]'"
    assert registry.install_line("PIL_extra") == "pip install pil-extra"


def test_a_third_party_adds_methods_by_entry_point(toys: Path) -> None:
    (toys.parent / "outside.py").write_text("class A:\n    '''Another.'''\nclass B:\n    '''Keeps b.'''\n")
    add_entry_point(toys.parent, "bee = outside:B")
    assert registry.names("toys") == ["bee", "edge"]
    assert registry.load("toys", "bee").__name__ == "B"
    assert registry.describe("toys")[0] == registry.Entry("bee", "Keeps b.", "")


def test_an_entry_point_may_not_take_our_names(toys: Path) -> None:
    add_entry_point(toys.parent, "edge = outside:B")
    with pytest.raises(ConfigError, match="toys/edge is taken twice: rename the entry point 'outside:B'"):
        registry.load("toys", "edge")


def test_an_entry_point_must_be_a_class(toys: Path) -> None:
    (toys.parent / "outside.py").write_text("b = 3\n")
    add_entry_point(toys.parent, "bee = outside:b")
    with pytest.raises(ConfigError, match="must be a class, got outside:b"):
        registry.load("toys", "bee")


def test_describe_reads_summary_and_source_without_importing(toys: Path) -> None:
    expected = registry.Entry("edge", "Keeps edges.", 'Someone et al., "A title", 2024, arXiv 1.2.')
    assert registry.describe("toys") == [expected]
    assert "toybox.edge" not in sys.modules


def test_show_prints_signature_and_docstring(toys: Path) -> None:
    text = registry.show("toys", "edge")
    assert "ratio: float = 0.5" in text
    assert "steps: tuple[int, ...] = (1, 2)" in text
    assert "Differs: in nothing." in text


@pytest.mark.parametrize("family", ["masking", "losses", "stability", "reduction"])
def test_every_shipped_method_loads_and_says_what_it_is_and_where_it_comes_from(family: str) -> None:
    entries = registry.describe(family)
    assert entries
    for entry in entries:
        assert entry.summary.endswith((".", "?"))
        assert len(entry.summary) <= 120
        assert entry.source or entry.name == "none"
        assert registry.load(family, entry.name).__doc__


@pytest.mark.parametrize(
    ("given", "kind"),
    [({"iterations": 2.5}, "int"), ({"temperature": "abc"}, "float"), ({"protect": True}, "float")],
)
def test_a_value_of_another_type_is_named(given: dict[str, Any], kind: str) -> None:
    option, value = next(iter(given.items()))
    with pytest.raises(ConfigError, match=rf"masking/pgs: {option}={value!r} must be of the type {kind}"):
        registry.check("masking", "pgs", given)


def test_whole_numbers_pass_for_floats_and_ranges_for_unions() -> None:
    registry.check("masking", "pgs", {"temperature": 1, "mask_ratio": [0.3, 0.5]})
