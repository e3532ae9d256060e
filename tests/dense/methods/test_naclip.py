"""NACLIP: key-key attention with a Gaussian of the distance."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.dense.methods._attention import neighbourhood
from patchclip.errors import ConfigError
from tests.dense.methods._reference import patches, products, softmax
from tests.dense.methods._towers import build, method, pictures, tower

CPU = torch.device("cpu")


def distances(rows: int, columns: int, std: float) -> Tensor:
    """The Gaussian of every two patches, counted out."""
    places = [(i, j) for i in range(rows) for j in range(columns)]
    return torch.tensor(
        [[math.exp(-((a - c) ** 2 + (b - d) ** 2) / (2 * std**2)) for c, d in places] for a, b in places]
    )


@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("std", [5.0, 0.7])
def test_it_adds_a_gaussian_before_the_softmax(std: float, reduced: bool) -> None:
    def weights(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = products(k, k)
        logits[1:, 1:] += distances(4, 4, std)  # the class token has no place
        return softmax(logits)

    pixels = pictures()
    expected = patches(build(), pixels, weights, residual=not reduced, mlp=not reduced)
    found = method("naclip", std=std, reduced=reduced)(tower(), pixels).features
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (1, 7)])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_the_window_is_the_closed_form_on_any_grid(grid: tuple[int, int], prefix: int) -> None:
    found = neighbourhood(grid, prefix, 1.3, CPU)
    patches = grid[0] * grid[1]
    assert found.shape == (prefix + patches, prefix + patches)
    assert found[:prefix].abs().sum() == found[:, :prefix].abs().sum() == 0
    torch.testing.assert_close(found[prefix:, prefix:], distances(*grid, 1.3))


def test_the_window_is_a_convolution_of_one_patch() -> None:
    """As the paper has it: a Gaussian kernel laid over the grid, its middle on the patch."""
    rows, columns, std = 3, 4, 2.0
    y, x = torch.arange(-rows + 1, rows).float(), torch.arange(-columns + 1, columns).float()
    kernel = torch.exp(-(y[:, None] ** 2 + x**2) / (2 * std**2))
    ones = torch.eye(rows * columns).view(-1, 1, rows, columns)
    laid = F.conv2d(ones, kernel[None, None], padding=(rows - 1, columns - 1)).flatten(1)
    torch.testing.assert_close(neighbourhood((rows, columns), 0, std, CPU), laid)


@torch.no_grad()
def test_a_boundless_neighbourhood_is_key_key_attention() -> None:
    """Every two patches get the same 1; a tower without a class token has nothing that does not."""
    pixels = pictures()
    wide = method("naclip", std=math.inf)(tower("siglip"), pixels).features
    plain = method("clearclip", attention="kk")(tower("siglip"), pixels).features
    torch.testing.assert_close(wide, plain, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_narrow_one_favours_the_patch_itself() -> None:
    assert torch.equal(neighbourhood((3, 2), 0, 1e-3, CPU), torch.eye(6))
    pixels = pictures()
    near = method("naclip", std=1e-3)(tower("siglip"), pixels).features
    wide = method("naclip", std=math.inf)(tower("siglip"), pixels).features
    alone = method("maskclip", residual=False, mlp=False)(tower("siglip"), pixels).features
    cosines = [F.cosine_similarity(found, alone, dim=-1).mean() for found in (near, wide)]
    assert cosines[0] > cosines[1]


def test_the_defaults_are_the_papers() -> None:
    pixels = pictures(1)
    expected = method("naclip", std=5.0, reduced=True)(tower(), pixels).features
    assert torch.equal(method("naclip")(tower(), pixels).features, expected)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan])
def test_a_width_that_is_none_is_refused(std: float) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        method("naclip", std=std)
