"""A concept that was planted is found, measured and taken out."""

import pytest
import torch
import torch.nn.functional as F

from patchclip.embeddings.maps.concept import KINDS, Concept, direction, probe
from patchclip.errors import ConfigError, DataError
from tests.embeddings._rows import rows

PLANTED = F.normalize(torch.tensor([1.0, -2.0, 0.5, 0.0, 1.0, 3.0]).double(), dim=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_direction_is_found_and_taken_out(kind: str) -> None:
    without = rows(8)
    given = without + PLANTED * torch.linspace(1, 2, 8).double()[:, None]
    torch.testing.assert_close(direction(given, without, kind), PLANTED)
    made = Concept(kind).fit(given, without)
    torch.testing.assert_close(made.apply(given), made.apply(without))
    torch.testing.assert_close(made.apply(given) @ PLANTED, torch.zeros(8).double(), rtol=0, atol=1e-12)


def test_what_is_across_stays() -> None:
    x = rows(9)
    made = Concept().fit(x + PLANTED, x)
    across = x - torch.outer(x @ PLANTED, PLANTED)
    torch.testing.assert_close(made.apply(across), across)
    torch.testing.assert_close(made.apply(made.apply(x)), made.apply(x))


def test_hand_arithmetic() -> None:
    source, target = torch.tensor([[3.0, 1.0], [5.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    assert direction(source, target).tolist() == [1.0, 0.0]
    assert Concept().fit(source, target).apply(torch.tensor([[7.0, 2.0]])).tolist() == [[0.0, 2.0]]
    found = probe(torch.tensor([[3.0, 4.0], [-2.0, 0.0], [0.0, 0.0]]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor([0.6, -1.0, 0.0]))


def test_the_two_kinds_differ_where_differences_cancel() -> None:
    without = rows(40)
    across = F.normalize(torch.tensor([2.0, 1.0, 0.0, 0.0, 0.0, 0.0]).double(), dim=0)
    sign = torch.tensor([5.0, -5.0]).double().repeat(20)[:, None]
    given = without + 0.5 * PLANTED + sign * across
    torch.testing.assert_close(direction(given, without), PLANTED)
    assert abs(direction(given, without, "principal") @ across) > 0.99


def test_it_points_towards_the_concept() -> None:
    x = rows(9)
    for kind in KINDS:
        assert direction(x + PLANTED, x, kind) @ PLANTED > 0
        assert direction(x - PLANTED, x, kind) @ PLANTED < 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_prompts_are_probed_in_full(dtype: torch.dtype) -> None:
    x = rows(9, dtype=dtype)
    found = probe(x, direction(x + 2, x))
    assert found.dtype == torch.float32
    assert (found.abs() <= 1).all()


def test_what_has_no_direction_is_refused() -> None:
    x = rows(8)
    for kind in KINDS:
        with pytest.raises(DataError, match="no direction to find"):
            Concept(kind).fit(x, x)
    with pytest.raises(DataError, match="needs a target"):
        Concept().fit(x)
    with pytest.raises(DataError, match="row by row"):
        direction(x, x[:5], "principal")
    with pytest.raises(ConfigError, match="kind='median' must be one of mean, principal"):
        Concept("median")
