"""Contrastive-gap loss against the terms of its paper, and what it does to two clouds."""

import pytest
import torch
import torch.nn.functional as F

from patchclip.errors import ConfigError
from patchclip.losses.clip import ClipLoss
from patchclip.losses.contrastive_gap import ContrastiveGapLoss
from tests.losses._batches import embeddings, scalar


def test_the_terms_are_those_of_the_paper() -> None:
    """Against torch.pdist and torch.cdist, as the authors compute them."""
    image, text = embeddings(12, dtype=torch.float64)
    scale = scalar(20.0, torch.float64)
    off = ~torch.eye(12, dtype=torch.bool)
    expected = {
        "contrastive": ClipLoss()(image, text, scale)["contrastive"],
        "uniformity": sum(torch.pdist(x).square().mul(-2).exp().mean().log() for x in (image, text)) / 2,
        "alignment": (image - text).norm(dim=1).square().mean(),
        "cross_uniformity": torch.cdist(image, text)[off].square().mul(-2).exp().mean().log(),
    }
    found = ContrastiveGapLoss()(image, text, scale)
    assert found.keys() == expected.keys()
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term)


def test_weights_scale_their_terms_and_0_leaves_them_out() -> None:
    image, text = embeddings(6)
    whole = ContrastiveGapLoss()(image, text, scalar(9.0))
    found = ContrastiveGapLoss(uniform=0.5, align=2.0, cross=0.0)(image, text, scalar(9.0))
    assert found.keys() == {"contrastive", "uniformity", "alignment"}
    torch.testing.assert_close(found["uniformity"], 0.5 * whole["uniformity"])
    torch.testing.assert_close(found["alignment"], 2 * whole["alignment"])
    plain = ContrastiveGapLoss(0.0, 0.0, 0.0)(image, text, scalar(9.0))
    assert plain.keys() == {"contrastive"}
    torch.testing.assert_close(plain["contrastive"], ClipLoss()(image, text, scalar(9.0))["contrastive"])


def test_a_collapse_costs_more_than_orthogonal_pairs() -> None:
    same = F.normalize(torch.ones(8, 8), dim=1)
    collapsed = ContrastiveGapLoss()(same, same, scalar(10.0))
    assert collapsed["uniformity"].item() == pytest.approx(0, abs=1e-5)
    assert collapsed["alignment"].item() == 0
    apart = ContrastiveGapLoss()(torch.eye(8), torch.eye(8), scalar(10.0))
    assert apart["uniformity"].item() == pytest.approx(-4)
    assert apart["cross_uniformity"].item() == pytest.approx(-4)


def descended(loss: ContrastiveGapLoss) -> tuple[float, float]:
    """Distance of the centroids, and share of pairs that find each other, of two cones that were apart."""
    image, text = (x.detach() for x in embeddings(16, 8))
    shift = F.one_hot(torch.tensor(0), 8) * 1.5
    image, text = (image + shift).requires_grad_(), (text - shift).requires_grad_()
    optimizer = torch.optim.SGD([image, text], lr=4.0)
    for _ in range(30):
        optimizer.zero_grad()
        torch.stack(list(loss(*unit(image, text), torch.tensor(30.0)).values())).sum().backward()
        optimizer.step()
    x, t = unit(image.detach(), text.detach())
    hits = (x @ t.T).argmax(dim=1) == torch.arange(16)
    return float((x.mean(dim=0) - t.mean(dim=0)).norm()), float(hits.float().mean())


def unit(*rows: torch.Tensor) -> list[torch.Tensor]:
    return [F.normalize(each, dim=1) for each in rows]


def test_the_gap_closes_further_than_under_the_contrastive_term_alone() -> None:
    plain, _ = descended(ContrastiveGapLoss(0.0, 0.0, 0.0))
    closed, found = descended(ContrastiveGapLoss())
    assert closed < 0.5 * plain
    assert found == 1


@pytest.mark.parametrize("name", ["uniform", "align", "cross"])
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_other_weights_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value} must be at least 0"):
        ContrastiveGapLoss(**{name: value})
