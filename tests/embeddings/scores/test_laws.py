"""What holds for every score: it is a metric, a filter and a reward alike."""

from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip import registry
from patchclip.contracts import ScoreFunction
from patchclip.embeddings.filtering import kept
from patchclip.errors import DataError
from tests.embeddings._rows import rows

NAMES = registry.names("scores")
SIDES = [(name, side) for name in NAMES for side in ("both", "image", "text")]
IMAGE, TEXT = rows(40), rows(40) + 0.3 * rows(40, seed=1)


@pytest.fixture(params=NAMES)
def score(request: pytest.FixtureRequest) -> ScoreFunction:
    made: Any = registry.build("scores", request.param)
    return made.fit(IMAGE, TEXT) if hasattr(made, "fit") else made


def test_the_family_is_there() -> None:
    assert set(NAMES) >= {"clip_score", "conformity", "likelihood"}


def test_it_is_a_score_of_rows(score: ScoreFunction) -> None:
    assert isinstance(score, ScoreFunction)
    found = score(IMAGE, TEXT)
    assert found.shape == (40,)
    assert found.isfinite().all()
    assert found.std() > 0


def test_a_row_is_scored_alone(score: ScoreFunction) -> None:
    whole = score(IMAGE, TEXT)
    for row in (0, 17):
        torch.testing.assert_close(score(IMAGE[row : row + 1], TEXT[row : row + 1])[0], whole[row])
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(score(IMAGE[order], TEXT[order]), whole[order])


def test_a_metric_of_what_it_kept_is_higher(score: ScoreFunction) -> None:
    found = score(IMAGE, TEXT)
    rows_kept = kept(found, 0.25)
    assert len(rows_kept) == 10
    assert score(IMAGE[rows_kept], TEXT[rows_kept]).mean() > found.mean()
    assert found[rows_kept].min() >= found.sort().values[-11]


def test_as_a_reward_it_can_be_climbed(score: ScoreFunction) -> None:
    image, text = IMAGE.clone().requires_grad_(), TEXT.clone().requires_grad_()
    before = score(image, text).sum()
    before.backward()
    assert image.grad is not None
    assert text.grad is not None
    for grad in (image.grad, text.grad):
        assert grad.isfinite().all()
        assert grad.abs().max() > 0
    step = 1e-3
    with torch.no_grad():
        after = score(image + step * image.grad, text + step * text.grad).sum()
    assert after > before


def test_the_gradient_is_that_of_finite_differences(score: ScoreFunction) -> None:
    x, y = IMAGE[:3].clone().requires_grad_(), TEXT[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(score, (x, y))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_scored_in_full(score: ScoreFunction, dtype: torch.dtype) -> None:
    image, text = IMAGE.to(dtype).requires_grad_(), TEXT.to(dtype)
    found = score(image, text)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, score(image.double(), text.double()).float(), rtol=1e-4, atol=1e-4)
    found.sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("name, side", SIDES)
def test_a_side_knows_only_its_own(name: str, side: str) -> None:
    if "of" not in registry.options("scores", name):
        return
    made: Any = registry.build("scores", name, of=side)
    made.fit(IMAGE, TEXT)
    x, y = IMAGE[:5].clone().requires_grad_(), TEXT[:5].clone().requires_grad_()
    made(x, y).sum().backward()
    assert (x.grad is None) == (side == "text")
    assert (y.grad is None) == (side == "image")


@pytest.mark.parametrize("name", NAMES)
def test_a_score_with_a_reference_says_where_it_is_missing(name: str) -> None:
    made: Any = registry.build("scores", name)
    if not hasattr(made, "fit"):
        return
    with pytest.raises(DataError, match="call fit"):
        made(IMAGE, TEXT)
    bad: Tensor = IMAGE.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(DataError, match="the first is row 3"):
        made.fit(bad, TEXT)
    with pytest.raises(DataError):
        made.fit(IMAGE[:0], TEXT)
    made.fit(IMAGE, TEXT)
    with pytest.raises(DataError, match="numbers"):
        made(IMAGE[:, :4], TEXT[:, :4])
