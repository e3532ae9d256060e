"""ProxyCLIP: weights from another network, on its grid or the tower's."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from patchclip.dense.methods.proxyclip import ProxyCLIP
from patchclip.errors import CheckpointError, ConfigError
from tests.dense.methods._reference import patches, softmax
from tests.dense.methods._towers import MEAN, STD, build, method, pictures, tower

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "fixed_input_size": False}


class Proxy(nn.Module):
    """A network whose features are given, whatever it sees; it keeps what it saw."""

    def __init__(self, maps: Tensor, reduction: int = 8) -> None:
        super().__init__()
        self.pretrained_cfg: dict[str, Any] = dict(IMAGENET)
        self.feature_info = [{"reduction": reduction}]
        self.maps, self.seen = maps, torch.empty(0)

    def forward_intermediates(self, pixels: Tensor, **options: Any) -> list[Tensor]:
        assert options == {"indices": 1, "norm": True, "output_fmt": "NCHW", "intermediates_only": True}
        self.seen = pixels
        return [self.maps.expand(len(pixels), -1, -1, -1)]


def with_proxy(proxy: nn.Module, **options: Any) -> ProxyCLIP:
    return ProxyCLIP(pretrained=False, **options).using(proxy)


def maps(channels: int, rows: int, columns: int) -> Tensor:
    return torch.randn(1, channels, rows, columns, generator=torch.Generator().manual_seed(4))


def explicit(features: Tensor, beta: float, gamma: float) -> Tensor:
    """Weights of features [c, l], one pair of patches at a time."""
    points = [point / point.norm() for point in features.T]
    similarity = torch.tensor([[float(a @ b) for b in points] for a in points])
    logits = gamma * (similarity - beta * similarity.mean())
    for i, row in enumerate(logits):
        for j in range(len(row)):
            if i != j and row[j] < 0:
                row[j] = float("-inf")
    return softmax(logits)


@pytest.mark.parametrize(("beta", "gamma"), [(1.2, 3.0), (0.5, 10.0)])
def test_weights_are_the_proxys_similarities_above_their_mean(beta: float, gamma: float) -> None:
    features, pixels = maps(6, 4, 4), pictures()
    mixing = torch.eye(17)  # no class token takes part
    mixing[1:, 1:] = explicit(features[0].flatten(1), beta, gamma)
    expected = patches(build(), pixels, lambda q, k, v: mixing, residual=False, mlp=False)
    found = with_proxy(Proxy(features), beta=beta, gamma=gamma)(tower(), pixels).features
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["native", "siglip", "registers"])
def test_with_patches_that_share_nothing_it_is_the_value_path(kind: str) -> None:
    identity, pixels = torch.eye(12).unflatten(1, (3, 4))[None], pictures(2, 24, 32)
    found = with_proxy(Proxy(identity))(tower(kind), pixels)
    expected = method("maskclip", residual=False, mlp=False)(tower(kind), pixels)
    assert found.grid == expected.grid
    torch.testing.assert_close(found.features, expected.features, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_with_patches_that_are_all_alike_each_attends_to_itself() -> None:
    """Nothing exceeds 1.2 times the mean there; the rule by the letter would divide nothing by nothing."""
    pixels = pictures()
    found = with_proxy(Proxy(torch.ones(1, 3, 4, 4)))(tower(), pixels).features
    expected = method("maskclip", residual=False, mlp=False)(tower(), pixels).features
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_two_groups_share_their_mean_value() -> None:
    """Patches of the upper half see one feature, those of the lower half another."""
    halves = torch.zeros(1, 2, 4, 4)
    halves[:, 0, :2] = halves[:, 1, 2:] = 1
    weights = ProxyCLIP(pretrained=False).attention(F.normalize(halves[0].flatten(1), dim=0))
    expected = torch.block_diag(torch.full((8, 8), 1 / 8), torch.full((8, 8), 1 / 8))
    torch.testing.assert_close(weights, expected)


@torch.no_grad()
def test_the_proxy_sees_the_image_normalised_its_own_way() -> None:
    proxy, image = Proxy(maps(3, 4, 4)), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    with_proxy(proxy)(tower(), (image - mean) / std)
    own_mean, own_std = (torch.tensor(IMAGENET[part])[:, None, None] for part in ("mean", "std"))
    torch.testing.assert_close(proxy.seen, (image - own_mean) / own_std, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_image_is_made_to_fit_the_proxys_patches() -> None:
    proxy, pixels = Proxy(maps(3, 2, 3), reduction=14), pictures(1, 24, 40)
    with_proxy(proxy)(tower(), pixels)
    assert proxy.seen.shape == (1, 3, 28, 42)
    proxy.pretrained_cfg |= {"fixed_input_size": True, "input_size": (3, 56, 56)}
    with_proxy(proxy)(tower(), pixels)
    assert proxy.seen.shape == (1, 3, 56, 56)


@torch.no_grad()
def test_the_grid_is_the_towers_or_the_proxys() -> None:
    proxy, pixels = Proxy(maps(5, 6, 9)), pictures(2, 24, 40)
    found = with_proxy(proxy)(tower(), pixels)
    assert found.grid == (3, 5)
    fine = with_proxy(proxy, grid="proxy")(tower(), pixels)
    assert fine.grid == (6, 9)
    assert fine.features.shape == (2, 54, 24)


@torch.no_grad()
def test_on_the_proxys_grid_values_are_interpolated() -> None:
    """With patches that share nothing, the mix is the value of the nearest places, bilinear."""
    read, pixels = tower(), pictures(1)
    identity = torch.eye(64).unflatten(1, (8, 8))[None]
    found = with_proxy(Proxy(identity), grid="proxy")(read, pixels).features
    tokens = read.embed(pixels)[0]
    for block in read.blocks[:-1]:
        tokens = block(tokens)
    values = read.blocks[-1].qkv(tokens)[2][0, :, 1:]  # m l dm
    fine = F.interpolate(values.transpose(1, 2).unflatten(2, (4, 4)), size=(8, 8), mode="bilinear")
    expected = read.finish(read.blocks[-1].merge(fine.flatten(2).transpose(1, 2)[None]))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_defaults_are_the_papers_numbers_on_the_towers_grid() -> None:
    assert ProxyCLIP().proxy == "vit_base_patch8_224.dino"
    features, pixels = maps(6, 5, 5), pictures(1)
    expected = with_proxy(Proxy(features), beta=1.2, gamma=3.0, grid="clip")(tower(), pixels)
    found = with_proxy(Proxy(features))(tower(), pixels)
    assert found.grid == expected.grid
    assert torch.equal(found.features, expected.features)


@pytest.mark.parametrize("name", ["test_vit2", "test_convnext", "resnet10t", "vit_tiny_patch16_dinov3_qkvb"])
@torch.no_grad()
def test_any_backbone_of_timm_serves(name: str) -> None:
    found = method("proxyclip", proxy=name)(tower(), pictures(1, 48, 64))
    assert found.grid == (6, 8)
    assert found.features.isfinite().all()


def test_the_proxy_is_made_once_and_frozen() -> None:
    dense: Any = method("proxyclip")
    first = dense.module(torch.device("cpu"))
    assert dense.module(torch.device("cpu")) is first
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())
    assert dense == method("proxyclip")
    assert hash(dense) == hash(method("proxyclip"))


@torch.no_grad()
def test_weights_of_a_file_are_used(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        known = timm.create_model("test_vit", num_classes=0)
    save_file(known.state_dict(), tmp_path / "proxy.safetensors")
    dense: Any = method("proxyclip", pretrained=True, weights=str(tmp_path / "proxy.safetensors"))
    found = dense.module(torch.device("cpu"))
    assert torch.equal(found.blocks[0].attn.qkv.weight, known.blocks[0].attn.qkv.weight)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match=r"absent.safetensors cannot be loaded .*pretrained=False"):
        method("proxyclip", weights=absent)(tower(), pictures())


def test_options_and_modules_that_do_not_fit_are_refused() -> None:
    for options in ({"beta": -1.0}, {"gamma": 0.0}, {"grid": "text"}, {"proxy": "no_such_net"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            method("proxyclip", **options)
    with pytest.raises(ConfigError, match="Linear lacks forward_intermediates, pretrained_cfg, feature_info"):
        with_proxy(nn.Linear(2, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_similarities_are_float32_at_any_precision(dtype: torch.dtype) -> None:
    dense = ProxyCLIP(pretrained=False)
    points = F.normalize(maps(6, 4, 4)[0].flatten(1), dim=0)
    exact = dense.attention(points)
    with torch.autocast("cpu", dtype=dtype):
        found = dense.attention(points)
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)
