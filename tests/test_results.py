"""The figures of the documentation are those of the result files; the FLOP limit is counted right."""

import importlib.util
from pathlib import Path
from types import ModuleType

import open_clip
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[1]


def module(path: Path) -> ModuleType:
    """A script of the repository, imported from its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_page_of_results_is_made_from_the_files() -> None:
    page = module(ROOT / "tools" / "results_page.py")
    written = (ROOT / "docs" / "results.md").read_text("utf-8")
    assert page.render() == written, "run python -m tools.results_page"
    assert "{{" not in written


def test_step_macs_are_those_that_torch_counts() -> None:
    """A dense forward of ViT-B/16, counted by torch operator by operator on tensors without memory."""
    macs = module(ROOT / "benchmarks" / "step_time.py").step_macs
    with torch.device("meta"):
        model = open_clip.create_model("ViT-B-16", device="meta").eval()
        pixels, tokens = torch.zeros(1, 3, 224, 224), torch.zeros(1, 77, dtype=torch.long)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.visual(pixels)
            model.encode_text(tokens)
    embedding = 196 * 3 * 16**2 * 768
    forward = (macs(196) + embedding) / 3
    assert counter.get_total_flops() / 2 == pytest.approx(forward, rel=0.005)
    assert macs(98) / macs(196) == pytest.approx(0.568, abs=0.001)
