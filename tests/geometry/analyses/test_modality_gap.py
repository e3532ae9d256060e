"""Gap, alignment and uniformity by brute force and at their bounds."""

import math

import pytest
import torch
import torch.nn.functional as F

from patchclip.errors import ConfigError, DataError
from patchclip.geometry.analyses import modality_gap as mg
from tests.geometry.analyses._pairs import pairs, sphere

IMAGE, TEXT = pairs(60)


def test_figures_by_brute_force() -> None:
    x, y = F.normalize(IMAGE, dim=-1), F.normalize(TEXT, dim=-1)
    found = mg.ModalityGap()(IMAGE, TEXT)
    table, own = x @ y.T, torch.eye(60).bool()
    assert found["centroid_distance"] == pytest.approx((x.mean(0) - y.mean(0)).norm().item())
    assert found["alignment"] == pytest.approx((x - y).square().sum(1).mean().item())
    assert found["alignment_score"] == pytest.approx(table.diagonal().mean().item())
    assert found["alignment"] == pytest.approx(2 - 2 * found["alignment_score"])
    assert found["positive_angle"] == pytest.approx(math.degrees(table.diagonal().acos().mean().item()))
    wrong = table[~own].mean().item()
    assert found["relative_alignment"] == pytest.approx(table.diagonal().mean().item() - wrong)
    for name, (one, other) in {"image": (x, x), "text": (y, y), "cross": (x, y)}.items():
        potential = torch.exp(-2 * (one[:, None] - other[None]).square().sum(-1))
        assert found[f"uniformity_{name}"] == pytest.approx(potential[~own].mean().log().item()), name


def test_lengths_do_not_count() -> None:
    lengths = torch.linspace(0.1, 9, 60).double()[:, None]
    expected = mg.ModalityGap()(IMAGE, TEXT)
    assert mg.ModalityGap()(IMAGE * lengths, 7 * TEXT) == pytest.approx(expected)


@pytest.mark.parametrize("width, expected", [(32, -3.75), (512, -3.98)])
def test_even_rows_come_near_the_bound(width: int, expected: float) -> None:
    assert mg.uniformity(sphere(1500, width)).item() == pytest.approx(expected, abs=0.02)


def test_uniformity_at_its_bounds() -> None:
    assert mg.uniformity(torch.eye(9).double()).item() == pytest.approx(-4)
    assert mg.uniformity(torch.ones(9, 4)).item() == pytest.approx(0)
    assert mg.uniformity(torch.ones(9, 4), -torch.ones(9, 4)).item() == pytest.approx(-8)


def test_uniformity_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = mg.uniformity(IMAGE), mg.uniformity(IMAGE, TEXT)
    monkeypatch.setattr(mg, "BLOCK", 7)
    torch.testing.assert_close((mg.uniformity(IMAGE), mg.uniformity(IMAGE, TEXT)), expected)


def test_a_sample_is_evenly_spaced() -> None:
    found = mg.ModalityGap(sample=6)(IMAGE, TEXT)
    assert found["uniformity_text"] == pytest.approx(mg.uniformity(TEXT[::10]).item())
    assert found["alignment"] == mg.ModalityGap()(IMAGE, TEXT)["alignment"]


def test_the_same_embeddings_have_no_gap() -> None:
    found = mg.ModalityGap()(IMAGE, IMAGE)
    for name in ("centroid_distance", "alignment", "positive_angle"):
        assert found[name] == pytest.approx(0, abs=1e-5)
    assert found["alignment_score"] == pytest.approx(1)
    assert found["separability"] == pytest.approx(0.5)


def test_opposite_cones_have_the_largest_gap() -> None:
    cone = sphere(200, 8) + 50 * sphere(1, 8, seed=1)
    found = mg.ModalityGap()(cone, -cone.roll(1, 0))
    assert found["centroid_distance"] == pytest.approx(2, abs=0.01)
    assert found["separability"] == 1
    assert found["positive_angle"] > 175
    assert found["relative_alignment"] == pytest.approx(0, abs=0.01)


def test_separability_is_that_of_held_out_rows() -> None:
    """With more numbers than rows, every plane separates the rows that it was fitted to."""
    one, other = sphere(60, 200), sphere(60, 200, seed=1)
    assert mg.ModalityGap()(one, other)["separability"] == pytest.approx(0.5, abs=0.15)


def test_separability_is_scikit_learns() -> None:
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    one, other = F.normalize(pairs(400, 4)[0], dim=-1), F.normalize(pairs(400, 4)[0] + 1.5, dim=-1)
    x = torch.cat([one[::2], other[::2]]).numpy()
    held_out = torch.cat([one[1::2], other[1::2]]).numpy()
    labels = [0] * 200 + [1] * 200
    theirs = analysis.LinearDiscriminantAnalysis().fit(x, labels).score(held_out, labels)
    assert 0.55 < theirs < 0.999
    assert mg.ModalityGap()(one, other)["separability"] == pytest.approx(theirs, abs=0.01)


def test_the_plane_is_that_of_both_together() -> None:
    x = torch.cat([F.normalize(IMAGE, dim=-1), F.normalize(TEXT, dim=-1)])
    one, other = mg.plane(IMAGE, TEXT)
    ours = torch.cat([one, other])
    left, values, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    expected = left[:, :2] * values[:2]
    torch.testing.assert_close(ours * (ours[0] * expected[0]).sign(), expected)
    assert torch.equal(mg.plane(IMAGE, TEXT)[0], one)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="sample=1"):
        mg.ModalityGap(sample=1)
    with pytest.raises(DataError, match="uniformity needs at least 2 rows"):
        mg.uniformity(IMAGE[:1])
    with pytest.raises(DataError, match="uniformity needs"):
        mg.uniformity(IMAGE, TEXT[:9])
