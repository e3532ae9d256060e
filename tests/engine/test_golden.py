"""The first losses of the demo recipe: a refactoring keeps them.

A hundredth is left for processors that round otherwise; another order, caption, mask or weight changes more.
"""

import json
from pathlib import Path

import pytest

from patchclip import load_config
from patchclip.engine.train import train

GOLDEN = Path(__file__).parents[1] / "golden" / "demo_losses.json"


def test_the_demo_begins_as_it_did(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    losses: list[float] = []
    config = load_config("demo", [*golden["overrides"], f"output={tmp_path}"])
    train(config, on_step=lambda info: losses.append(info.loss))
    assert losses == pytest.approx(golden["losses"], rel=0.01)
