"""What holds for every analysis, ours and those to come."""

import math

import pytest
import torch

from patchclip import registry
from patchclip.contracts import Analysis
from patchclip.embeddings import feature_stats
from patchclip.errors import DataError
from patchclip.geometry.analyses import _rows, _shells, double_ellipsoid, whitened
from tests.geometry.analyses._pairs import pairs

NAMES = registry.names("geometry")


@pytest.fixture(params=NAMES)
def analysis(request: pytest.FixtureRequest) -> Analysis:
    made: Analysis = registry.build("geometry", request.param)
    return made


def test_the_family_is_there() -> None:
    assert set(NAMES) >= {"double_ellipsoid", "modality_gap", "whitened"}


def test_it_gives_finite_figures(analysis: Analysis) -> None:
    assert isinstance(analysis, Analysis)
    found = analysis(*pairs(60))
    assert found
    assert all(type(value) is float and math.isfinite(value) for value in found.values())


def test_it_is_the_same_at_every_call_and_changes_nothing(analysis: Analysis) -> None:
    image, text = pairs(60)
    before = image.clone(), text.clone()
    assert analysis(image, text) == analysis(image, text)
    assert torch.equal(image, before[0])
    assert torch.equal(text, before[1])


def test_many_rows_are_read_in_parts(analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    image, text = pairs(60)
    expected = analysis(image, text)
    for module in (feature_stats, _rows, _shells, double_ellipsoid, whitened):
        monkeypatch.setattr(module, "CHUNK", 7)
    assert analysis(image, text) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_low_precision_is_near(analysis: Analysis, dtype: torch.dtype) -> None:
    found = analysis(*pairs(200, dtype=dtype))
    for name, expected in analysis(*pairs(200)).items():
        assert found[name] == pytest.approx(expected, rel=0.05, abs=0.05), name


def test_the_fewest_rows_and_rows_without_variance_give_figures(analysis: Analysis) -> None:
    assert all(math.isfinite(value) for value in analysis(*pairs(4)).values())
    assert all(math.isfinite(value) for value in analysis(*pairs(5, width=2)).values())


def test_rows_that_require_gradients_are_fine(analysis: Analysis) -> None:
    image, text = pairs(20)
    assert analysis(image.requires_grad_(), text) == analysis(image.detach(), text)


@pytest.mark.parametrize("wrong", ["few", "nan", "inf"])
def test_what_cannot_be_analysed_is_refused(analysis: Analysis, wrong: str) -> None:
    image, text = pairs(20)
    if wrong == "few":
        image, text = image[:3], text[:3]
    if wrong in ("nan", "inf"):
        text[3, 1] = float(wrong)
    with pytest.raises(DataError, match="the first is row 3" if wrong != "few" else "at least 4"):
        analysis(image, text)
