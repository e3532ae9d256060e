"""The catalogue: methods have pages, experiments say what they ask, figures come from the file."""

import ast
import json
from pathlib import Path

import pytest

from patchclip import registry
from tests.test_results import module

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FOUND = sorted((ROOT / "benchmarks" / "experiments").glob("*.py"))
EXPERIMENTS = [path for path in FOUND if path.stem[0] != "_"]
OWN = ("masking", "reduction", "losses", "heads", "adapt", "geometry", "context")
PAGES = {
    **{family: f"{family}/{{}}.md" for family in OWN},
    **{"explanations": "geometry/{}.md", "suites": "evaluation/README.md", "dense": "dense/methods.md"},
    **{"refinement": "dense/inference.md", "corruptors": "corruptors.md", "maps": "embeddings.md"},
    **{"scores": "embeddings.md", "stability": "stability/README.md"},
}
"""Family -> where its methods are explained, under docs/."""
METHODS = [(family, name) for family in registry.FAMILIES for name in registry.names(family)]


@pytest.mark.parametrize(("family", "name"), METHODS, ids=["/".join(pair) for pair in METHODS])
def test_every_method_has_its_page_and_a_sentence(family: str, name: str) -> None:
    path = DOCS / PAGES[family].format(name)
    if (family, name) == ("losses", "pacl"):
        path = DOCS / "heads" / "pacl.md"
    text = path.read_text("utf-8")
    assert name in text.lower() or name.replace("_", "-") in text
    entry = next(entry for entry in registry.describe(family) if entry.name == name)
    assert entry.summary[-1:] in {".", "?"}


def test_the_page_of_figures_is_made_from_the_file() -> None:
    page = module(ROOT / "tools" / "catalogue_page.py")
    content = json.loads(page.RESULT.read_text("utf-8"))
    assert page.render(content) == page.PAGE.read_text("utf-8"), "run python -m tools.catalogue_page"
    assert set(content["methods"]) == {path.stem for path in EXPERIMENTS}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_says_what_it_asks_and_where_its_page_is(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert len((ast.get_docstring(tree) or "").split()) > 20
    assert (DOCS / ast.literal_eval(values["PAGE"])).is_file()
    assert {"run", "cost"} <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_a_change_is_named_where_its_interval_leaves_out_zero() -> None:
    """Three seeds: Student's factor is 4.30, so changes of 1.0, 1.1, 1.2 are clear, and of -1, 1, 1.2 not."""
    page = module(ROOT / "tools" / "catalogue_page.py")
    measure = {"text": "x", "better": "higher", "digits": 1, "without": [0.0, 0.0, 0.0]}
    assert page.cells({**measure, "with": [1.0, 1.1, 1.2]}) == ["x", "0.0", "1.1", "+1.1 ± 0.1", "better"]
    assert page.cells({**measure, "with": [-1.0, 1.0, 1.2]})[-1] == "no clear change"
    assert page.cells({**measure, "better": "lower", "with": [1.0, 1.1, 1.2]})[-1] == "worse"
    assert page.cells({**measure, "better": "", "with": [1.0, 1.1, 1.2]})[-1] == ""
    assert page.verdict("higher", 1.0, 0.0, 1) == "no clear change"
