"""The shape of the house, read from the source: who imports whom, how long files are, what is not used."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "patchclip"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted(
    path for folder in ("tests", "benchmarks", "tools") for path in (ROOT / folder).rglob("*.py")
)

LAYERS = (
    (
        "errors",
        "contracts",
        "registry",
        "spec",
        "_tensors",
        "config",
        "_config_base",
        "_config_file",
        "_config_rules",
        "_config_sections",
    ),
    ("data", "models", "masking", "losses", "stability", "reduction", "heads", "embeddings"),
    ("dense",),
    ("evaluation", "adapt", "geometry", "curation", "anomaly", "draw"),
    ("engine",),
    ("report", "apps"),
    ("_cli_format", "_cli_bars", "_cli_cache"),
    ("_cli_eval", "_cli_dense", "_cli_doctor", "_cli_data", "_cli_adapt", "_cli_geometry"),
    ("cli",),
    ("__main__",),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
METHOD_FOLDERS = (
    *("masking", "losses", "stability", "reduction", "heads", "dense/methods", "dense/refinement"),
    *("data/corruptors", "models/context", "embeddings/maps", "embeddings/scores", "adapt/methods"),
    *("geometry/analyses", "geometry/explanations"),
)
EXTRAS = {"syntax": ("textblob",), "_proxy": ("timm",)}
"""Method, or helper of methods -> the packages that it needs beside torch."""
LINEAR = ("patchclip.embeddings.linear_map.", "patchclip.embeddings.feature_stats.")
SHARED: dict[str, tuple[str, ...]] = {
    "data.corruptors": ("patchclip.data.negatives.", "patchclip.data.grammar."),
    **dict.fromkeys(("embeddings.maps", "embeddings.scores", "adapt.methods", "geometry.analyses"), LINEAR),
}
"""Folder of methods -> what its methods may import of ours beside the contracts."""
KNOW_CONFIG = {
    *("config", "_config_base", "_config_file", "_config_rules", "_config_sections"),
    *("engine", "report", "_cli_format", "cli"),
}


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules and attributes that a file of the package imports, at any depth."""
    package = ["patchclip", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    """The folder or top-level module of a file: the unit that has a layer."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def own_parts(path: Path) -> set[str]:
    """The parts of patchclip that a file imports, itself left out."""
    names = (name.split(".") for name in imports(path))
    found = {name[1] for name in names if name[0] == "patchclip" and len(name) > 1}
    return {part for part in found if part in RANK} - {part_of(path)}


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


INNER = [path for path in MODULES if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", INNER, ids=identify)
def test_layers_import_only_from_those_before_them(path: Path) -> None:
    part = part_of(path)
    assert part in RANK, f"{part} has no layer: name it in LAYERS of this test"
    ground = RANK[part] == 0
    wrong = {other for other in own_parts(path) if RANK[other] >= RANK[part] + (1 if ground else 0)}
    assert not wrong, f"{part} must not import {', '.join(sorted(wrong))}"


def test_the_parts_of_the_ground_layer_have_no_circle() -> None:
    edges = {path.stem: own_parts(path) for path in PACKAGE.glob("*.py") if RANK.get(path.stem) == 0}
    while edges:
        leaves = {part for part, needs in edges.items() if not needs & edges.keys()}
        assert leaves, f"circle among {', '.join(sorted(edges))}"
        edges = {part: needs for part, needs in edges.items() if part not in leaves}


@pytest.mark.parametrize("path", INNER, ids=identify)
def test_only_the_edge_knows_configuration(path: Path) -> None:
    knows = own_parts(path) & {"config", "_config_base", "_config_file", "_config_rules"}
    assert not knows or part_of(path) in KNOW_CONFIG


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_only_models_imports_open_clip(path: Path) -> None:
    uses = any(name.split(".")[0] == "open_clip" for name in imports(path))
    assert not uses or part_of(path) == "models"


METHODS = [path for folder in METHOD_FOLDERS for path in sorted((PACKAGE / folder).glob("*.py"))]


@pytest.mark.parametrize("path", METHODS, ids=identify)
def test_a_method_knows_only_torch_the_contracts_and_its_folders_helpers(path: Path) -> None:
    allowed = {"torch", "jaxtyping", *sys.stdlib_module_names, *EXTRAS.get(path.stem, ())}
    folder = ".".join(path.parent.relative_to(PACKAGE).parts)
    ours = ("patchclip.contracts.", "patchclip.errors.", f"patchclip.{folder}._", *SHARED.get(folder, ()))
    for name in imports(path):
        assert name.split(".")[0] in allowed or name.startswith(ours), f"{name} is not a method's business"


@pytest.mark.parametrize("path", METHODS, ids=identify)
def test_a_method_is_at_most_150_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=identify)
def test_files_are_at_most_300_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_functions_are_short_and_take_few_arguments(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.FunctionDef):
            continue
        first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
        lines = (node.end_lineno or 0) - first.lineno + 1
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len([name for name in arguments if name not in ("self", "cls")])
        assert lines <= 40, f"{node.name} has {lines} lines"
        assert count <= 6, f"{node.name} takes {count} arguments"


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_nothing_is_printed_and_nothing_is_unpickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called != "print" or part_of(path) in ("cli", "_cli_format"), (
            "the library logs; only the command line prints"
        )
        assert called not in ("eval", "exec", "yaml.load", "yaml.unsafe_load"), called
        if called == "torch.load":
            safe = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert safe.get("weights_only") == "True", "torch.load needs weights_only=True"
    unsafe = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    assert not unsafe & {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("statement", ["import patchclip", "import patchclip.cli", "import patchclip.config"])
def test_importing_is_quick(statement: str) -> None:
    heavy = "{'torch', 'open_clip', 'numpy', 'matplotlib', 'datasets'}"
    code = f"import sys; {statement}; print(*sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
