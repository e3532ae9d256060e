"""Folding a map into the text tower: the embeddings are those of the map, and open_clip reads the file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchclip.engine.records.checkpoint import save_final
from patchclip.errors import TowerError
from patchclip.models.architectures import Architecture, create
from patchclip.models.folding import fold_text
from tests.models._tiny import NATIVE, TEXT, TINY, build

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "matrix": ("ViT-Ti-16", TINY),
    "linear": ("ViT-Ti-16", {**TINY, "text_cfg": {**TEXT, "proj_bias": True}}),
    "none": (
        "ViT-Ti-16",
        {"embed_dim": 64, "vision_cfg": NATIVE, "text_cfg": {**TEXT, "proj_type": "none"}},
    ),
    "custom": ("EVA02-B-16", {}),
}


def model(kind: str) -> Architecture:
    if kind == "custom":
        found = build("timm")
    else:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            found = create(KINDS[kind][0], overrides=KINDS[kind][1])
    if kind == "linear":
        nn.init.normal_(found.model.text_projection.bias)
    found.model.eval()
    return found


def texts(architecture: Architecture) -> Tensor:
    return architecture.tokenizer(["a red cube", "a cat", "two dogs on a sofa"])


def matrix(width: int, seed: int = 0) -> Tensor:
    return torch.randn(width, width, generator=torch.Generator().manual_seed(seed)) / width**0.5


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_embeddings_are_those_of_the_map(kind: str) -> None:
    architecture = model(kind)
    before = architecture.model.encode_text(texts(architecture))
    weight = matrix(before.shape[1])
    folded = fold_text(architecture, weight)
    after = folded.model.encode_text(texts(architecture))
    torch.testing.assert_close(after, before @ weight.T, rtol=1e-4, atol=1e-5)
    assert torch.equal(architecture.model.encode_text(texts(architecture)), before)  # left as it was
    same = fold_text(architecture, torch.eye(len(weight))).model.encode_text(texts(architecture))
    assert torch.equal(same, before)  # A = I is CLIP itself


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_plain_open_clip_reads_the_folded_model(kind: str, tmp_path: Path) -> None:
    architecture = model(kind)
    width = architecture.model.encode_text(texts(architecture)).shape[1]
    folded = fold_text(architecture, matrix(width))
    folder = save_final(tmp_path, folded, folded.model.state_dict())
    read = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()
    expected = F.normalize(folded.model.encode_text(texts(architecture)), dim=-1)
    torch.testing.assert_close(F.normalize(read.encode_text(texts(architecture)), dim=-1), expected)
    pixels = torch.randn(1, 3, architecture.image_size, architecture.image_size)
    torch.testing.assert_close(read.encode_image(pixels), architecture.model.encode_image(pixels))


@torch.no_grad()
def test_a_projection_with_a_bias_takes_an_offset_and_others_refuse_it() -> None:
    architecture = model("linear")
    before = architecture.model.encode_text(texts(architecture))
    weight, offset = matrix(32), torch.arange(32.0)
    after = fold_text(architecture, weight, offset).model.encode_text(texts(architecture))
    torch.testing.assert_close(after, before @ weight.T + offset, rtol=1e-4, atol=1e-5)
    for kind in ("matrix", "none"):
        found = model(kind)
        width = found.model.encode_text(texts(found)).shape[1]
        with pytest.raises(TowerError, match="no bias to take an offset"):
            fold_text(found, matrix(width), torch.ones(width))


class Holder(nn.Module):
    """A model whose text tower is given."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text

    def encode_text(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.text(tokens)
        return found


@pytest.mark.parametrize("projection", [None, "linear", "mlp"])
@torch.no_grad()
def test_towers_of_hugging_face(projection: str | None) -> None:
    transformers = pytest.importorskip("transformers")
    from open_clip.hf_model import HFTextEncoder

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=100, pad_token_id=0, **sizes)
    tower = HFTextEncoder(
        "bert",
        32,
        config=config,
        pooler_type="cls_last_hidden_state_pooler",
        proj_type=projection,
        pretrained=False,
    )
    whole = replace(model("matrix"), model=Holder(tower).eval())
    tokens = torch.tensor([[5, 6, 7, 0], [9, 3, 2, 1]])
    before, weight = whole.model.encode_text(tokens), matrix(32)
    folded = fold_text(whole, weight)
    torch.testing.assert_close(folded.model.encode_text(tokens), before @ weight.T, rtol=1e-4, atol=1e-5)
    assert (folded.model_cfg["text_cfg"].get("hf_proj_type") == "linear") == (projection is None)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TowerError, match="must be square"):
        fold_text(model("matrix"), matrix(31))
    with pytest.raises(TowerError, match=r"must be \[64, 64\]"):
        fold_text(model("none"), matrix(31))
    with pytest.raises(TowerError, match="no text tower of open_clip"):
        fold_text(replace(model("matrix"), model=Holder(nn.Linear(2, 2))), matrix(32))
