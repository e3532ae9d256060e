"""What the documents promise: commands parse, snippets compile, names and links exist, the guide works."""

import ast
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import patchclip
from patchclip import cli, masking, registry
from patchclip.config import load_config
from patchclip.contracts import Masker

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = ("bash", "sh", "shell", "console")
documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def fences(path: Path, *languages: str) -> list[str]:
    """The fenced blocks of a document in one of the languages."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
    return [text for language, text in found if language in languages]


def commands(path: Path) -> Iterator[list[str]]:
    """The commands of a document's shell blocks, word by word, one for each part of a `&&` chain."""
    for block in fences(path, *SHELLS):
        for line in block.replace("\\\n", " ").splitlines():
            for words in parts(line.removeprefix("$ ")):
                while words and re.match(r"[A-Z_]+=", words[0]):
                    del words[0]
                if words:
                    yield words


def parts(line: str) -> Iterator[list[str]]:
    """The words of each command of a line that `&&`, `|` or `;` divide; quoted ones do not."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("&|;"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def check_command(words: list[str]) -> None:
    """One `patchclip ...` command: it parses, its configuration loads, its method exists.

    A configuration called my*.yaml stands for a file of the reader's own.
    """
    try:
        arguments = cli.parse(words)
    except SystemExit as stop:
        if stop.code:
            pytest.fail(f"patchclip {shlex.join(words)} does not parse")
        return
    if arguments.verb == "train":
        config = arguments.config
        if config and Path(config).name.startswith("my"):
            config = None
        if config and config.startswith("configs/"):
            config = str(ROOT / config)
        load_config(config, arguments.settings)
    elif arguments.verb == "show":
        family, _, name = arguments.method.partition("/")
        registry.load(cli.FAMILIES.get(family, family), name)


@documents
def test_commands_parse(path: Path) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    for words in commands(path):
        start = words.index("-m") + 1 if "-m" in words else 0
        if words[start].rpartition("/")[2] == "patchclip":
            check_command(words[start + 1 :])
        elif words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= set(targets), shlex.join(words)
        elif words[0].endswith("python") and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), shlex.join(words)


@documents
def test_python_snippets_compile_and_their_names_exist(path: Path) -> None:
    for block in fences(path, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "patchclip":
                home = importlib.import_module(node.module or "")
                missing = [alias.name for alias in node.names if not hasattr(home, alias.name)]
                for name in missing:
                    importlib.import_module(f"{node.module}.{name}")
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "patchclip":
                assert hasattr(patchclip, node.attr), f"patchclip.{node.attr} does not exist"


@documents
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)\s]+)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for link in links:
        if not re.match(r"[a-z]+:|#", link):
            assert (path.parent / link.partition("#")[0]).exists(), f"{path.name} links to {link}"


@documents
def test_yaml_snippets_are_configurations(path: Path, tmp_path: Path, guide: dict[str, Any]) -> None:
    for block in fences(path, "yaml"):
        (tmp_path / "snippet.yaml").write_text(block, "utf-8")
        load_config(tmp_path / "snippet.yaml")


def test_the_readme_is_short() -> None:
    text = re.sub(r"^```.*?^```", "", (ROOT / "README.md").read_text("utf-8"), flags=re.M | re.S)
    assert len(text.split()) <= 600


@pytest.fixture
def guide(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The masker of CONTRIBUTING.md, standing in the folder of maskers; and its test's names."""
    method, test = fences(ROOT / "CONTRIBUTING.md", "python")
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "center.py").write_text(method, "utf-8")
    folders = list(masking.__path__)
    masking.__path__.append(str(tmp_path / "extra"))
    importlib.invalidate_caches()
    namespace: dict[str, Any] = {}
    exec(compile(test, "CONTRIBUTING.md", "exec"), namespace)
    yield namespace
    masking.__path__[:] = folders
    sys.modules.pop("patchclip.masking.center", None)
    importlib.invalidate_caches()


def test_the_masker_of_the_guide_works(guide: dict[str, Any]) -> None:
    assert "center" in registry.names("masking")
    entry = next(entry for entry in registry.describe("masking") if entry.name == "center")
    assert entry.source == "this guide."
    masker = registry.build("masking", "center", mask_ratio=0.25)
    assert isinstance(masker, Masker)
    pixels, tokens = torch.zeros(3, 3, 64, 96), torch.zeros(3, 24, 8)
    keep = masker.select(pixels, tokens, 0.0, torch.Generator().manual_seed(1))
    assert keep.shape == (3, 18)
    assert (keep.diff(dim=1) > 0).all()
    assert not torch.equal(keep[0], keep[1])


def test_the_test_of_the_guide_passes(guide: dict[str, Any]) -> None:
    tests = [value for name, value in guide.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_the_public_names_exist() -> None:
    assert len(patchclip.__all__) <= 20
    for name in patchclip.__all__:
        assert getattr(patchclip, name) is not None
    assert set(patchclip.__all__) <= set(dir(patchclip))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = patchclip.nothing  # type: ignore[attr-defined]


def test_the_version_is_one() -> None:
    pattern = r'^version\s*[=:]\s*"?([\d.]+)"?$'
    for name in ("pyproject.toml", "CITATION.cff"):
        found = re.search(pattern, (ROOT / name).read_text("utf-8"), re.M)
        assert found is not None, name
        assert found[1] == patchclip.__version__, name


def test_the_lazy_names_and_the_typed_imports_agree() -> None:
    tree = ast.parse((ROOT / "src/patchclip/__init__.py").read_text("utf-8"))
    typed = {
        alias.name: (node.module or "").removeprefix("patchclip.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("patchclip.")
        for alias in node.names
    }
    assert typed == patchclip._HOME
    assert {*typed, "__version__"} == set(patchclip.__all__)
