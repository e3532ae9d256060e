"""The Beta moving average against a direct weighted sum, torch's density and the released code."""

from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip.adapt.methods.clipood import CLIPood, running_shares
from tests.adapt._labelled import generator, model_of, prompts, shots_of


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_the_running_average_is_the_sum_weighted_by_the_beta_density(beta: float, steps: int) -> None:
    path = torch.randn(steps + 1, 5, generator=generator(), dtype=torch.float64)
    x = (torch.arange(steps + 1, dtype=torch.float64) + 0.5) / (steps + 1)
    both = torch.tensor(beta, dtype=torch.float64)
    density = torch.distributions.Beta(both, both).log_prob(x).exp()
    direct = (density[:, None] * path).sum(0) / density.sum()
    running, shares = path[0].clone(), running_shares(steps, beta).tolist()
    assert shares[0] == 1
    assert len(shares) == steps + 1
    for step in range(1, steps + 1):
        running.lerp_(path[step], shares[step])
    torch.testing.assert_close(running, direct, atol=1e-12, rtol=1e-12)


def test_beta_one_is_the_plain_mean() -> None:
    torch.testing.assert_close(running_shares(9, 1.0), 1 / torch.arange(1, 11, dtype=torch.float64))


@pytest.mark.parametrize("beta, least", [(0.5, 5), (2.0, 0)])
def test_the_ends_or_the_middle_count_most(beta: float, least: int) -> None:
    weights = [1.0]
    for share in running_shares(10, beta)[1:].tolist():
        weights.append(share / (1 - share) * sum(weights))
    assert weights == pytest.approx(weights[::-1])
    assert min(range(11), key=lambda i: round(weights[i], 9)) == least


class Watching(CLIPood):
    """Notes the weights that each update starts from."""

    def step(self, classes: Any, texts: Tensor, rows: list[int]) -> Tensor:
        self.__dict__.setdefault("path", []).append(classes.model.visual.proj.detach().clone())
        return super().step(classes, texts, rows)


@pytest.mark.parametrize("beta", [0.5, 1.0])
@pytest.mark.parametrize("lr", [1e-3, 1e-8])
def test_the_result_is_the_average_of_the_way(lr: float, beta: float) -> None:
    """Weighted by hand in float64; with small updates too."""
    model, last, steps = model_of("native"), model_of("native"), 6
    for one in (model, last):
        one.visual.proj.data.clamp_(-1e-3, 1e-3)
    start = model.visual.proj.detach().double()
    watching = Watching(beta=beta, steps=steps, lr=lr, batch_size=5)
    watching.fit(model, shots_of(model), prompts(), generator())
    CLIPood(beta=None, steps=steps, lr=lr, batch_size=5).fit(last, shots_of(last), prompts(), generator())
    path = torch.stack([*watching.__dict__["path"], last.visual.proj.detach()]).double()
    assert len(path) == steps + 1
    x = (torch.arange(steps + 1, dtype=torch.float64) + 0.5) / (steps + 1)
    weights = (x * (1 - x)) ** (beta - 1)
    direct = (weights[:, None, None] * (path - start)).sum(0) / weights.sum()
    assert direct.abs().max() > 0
    found = model.visual.proj.detach().double() - start
    assert float((found - direct).norm() / direct.norm()) < (1e-4 if lr == 1e-3 else 1e-2)


@pytest.mark.parametrize("beta, lost", [(0.5, 0.35), (1.0, 0.3)])
def test_an_average_in_half_precision_is_another_one(beta: float, lost: float) -> None:
    """The released code averages so: a third of the way is rounded off. Ways in float32 lose nothing."""
    steps, shares = 2000, running_shares(2000, beta).tolist()
    start, way = (
        0.05 * torch.randn(2000, generator=generator()),
        0.002 * torch.randn(2000, generator=generator(1)),
    )
    half, mean = start.half(), torch.zeros(2000)
    for step in range(1, steps + 1):
        now = start + way * step / steps
        ratio = shares[step] / (1 - shares[step])
        half = (half + ratio * now.half()) / (1 + ratio)  # GeneralMovingAverage.update
        mean.lerp_(now - start, shares[step])
    direct = way / 2  # both densities are symmetric
    assert float((mean - direct).norm() / direct.norm()) < 1e-3
    assert float((half.float() - start - direct).norm() / direct.norm()) > lost
