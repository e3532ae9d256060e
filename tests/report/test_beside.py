"""The page's sheet: the run's strategy beside the others, small and drawn over one copy of each image."""

import re
import time
from pathlib import Path

import pytest
import torch

from patchclip import registry
from patchclip.evaluation.strategies import Strategy
from patchclip.models import towers
from patchclip.models.architectures import create
from patchclip.models.masked import preview
from patchclip.report.beside import strategy_columns, veil
from patchclip.report.run_report import write_report

from ._runs import TINY, make_run, picture


@pytest.fixture(scope="module")
def encoder() -> towers.ClipEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture = create("ViT-Ti-16", image_size=32, context_length=16, overrides=TINY)
    architecture.model.eval()
    return towers.ClipEncoder(architecture)


def test_the_runs_strategy_comes_first_and_the_others_drop_as_much(encoder: towers.ClipEncoder) -> None:
    own = Strategy("pgs", registry.build("masking", "pgs", mask_ratio=0.25, protect=0.1))
    images = [picture(i) for i in range(3)]
    columns = strategy_columns(encoder, own, images)
    titles = [column.title for column in columns]
    assert titles[:3] == ["image", "pgs", "random"]
    assert len(set(titles)) == len(titles)
    assert "none" not in titles
    assert all(column.note == "12 of 16" for column in columns[1:] if column.title != "resize")
    pixels = torch.stack([encoder.preprocess(image) for image in images])
    expected = [veil(keep, (4, 4)) for keep in preview(encoder, own.masker, pixels, 1.0)]
    assert [cell.veil for cell in columns[1].cells] == expected
    assert [bool(cell.uri) for cell in columns[0].cells] == [True] * 3
    assert not any(cell.uri for cell in columns[1].cells)


def test_no_images_no_columns(encoder: towers.ClipEncoder) -> None:
    assert strategy_columns(encoder, Strategy("random", registry.build("masking", "random")), []) == []


def test_the_page_shows_it_small_and_quickly(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    start = time.perf_counter()
    text = write_report(run).read_text(encoding="utf-8")
    assert time.perf_counter() - start < 10
    part = text[text.index("Other strategies on the same images") : text.index("What the model finds")]
    assert len(part) < 150_000
    assert part.count("<image id=") == 4
    assert set(re.findall(r'href="(#[^"]+)"', part)) == {f"#beside-{i}" for i in range(1, 5)}
    assert part.index('class="own"') < part.index("<b>random</b>")
