"""Raw patches: what the encoder's own patch features are, before they are made unit length."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip import registry
from tests.dense.methods._reference import finish, patches, products, softmax
from tests.dense.methods._towers import build, method, pictures, tower
from tests.models._tiny import encoder
from tests.models._tiny import pictures as own_pictures


@pytest.mark.parametrize("kind", ["native", "native-avg", "timm", "timm-avg", "timm-map"])
@torch.no_grad()
def test_unit_length_they_are_the_encoders_patch_features(kind: str) -> None:
    found = encoder(kind)
    pixels = own_pictures(found.architecture)
    expected = found.patch_features(pixels)
    read = registry.build("dense", "raw")(found.tower(), pixels)
    assert read.grid == expected.grid
    torch.testing.assert_close(F.normalize(read.features, dim=-1), expected.features, atol=1e-5, rtol=0)


@torch.no_grad()
def test_they_are_the_last_tokens_normed_and_projected() -> None:
    visual, pixels = build(), pictures()
    expected = finish(visual, visual.transformer(visual._embeds(pixels)))
    torch.testing.assert_close(method("raw")(tower(), pixels).features, expected, atol=1e-5, rtol=1e-5)


def test_they_attend_by_queries_and_keys_with_residual_and_mlp() -> None:
    def weights(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return softmax(products(q, k))

    pixels = pictures()
    expected = patches(build(), pixels, weights, residual=True, mlp=True)
    torch.testing.assert_close(method("raw")(tower(), pixels).features, expected, atol=1e-4, rtol=1e-4)
