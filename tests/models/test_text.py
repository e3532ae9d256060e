"""Text towers on short rows: the same embedding and gradients as the padded row, or a refusal."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from patchclip.errors import TowerError
from patchclip.models.architectures import create
from patchclip.models.text import check_shorter, encode_text, unpadded
from tests.models._tiny import NATIVE, TEXT

SHORT, FULL, END = 7, 16, 49407


def model(**text: Any) -> Any:
    custom = text.pop("custom", False)
    torch.manual_seed(0)
    config = {"embed_dim": 32, "vision_cfg": NATIVE, "text_cfg": {**TEXT, "layers": 2, **text}}
    made = create("ViT-Ti-16", overrides={**config, "custom_text": custom}).model
    torch.nn.init.normal_(getattr(made, "text", made).positional_embedding)
    return made.train()


def rows(end: int = END) -> tuple[Tensor, Tensor]:
    """Captions of three lengths as short rows and padded to the context."""
    generator = torch.Generator().manual_seed(0)
    short = torch.randint(1, 400, (3, SHORT), generator=generator)
    for row, stop in zip(short, (3, 5, SHORT), strict=True):
        row[stop - 1] = end
        row[stop:] = 0
    return short, torch.cat([short, short.new_zeros(3, FULL - SHORT)], dim=1)


def gradients(made: nn.Module, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    made.zero_grad(set_to_none=True)
    embedded = encode_text(made, tokens)
    (embedded * torch.linspace(-1, 1, embedded.numel()).view_as(embedded)).sum().backward()
    return embedded.detach(), {
        name: value.grad.clone() for name, value in made.named_parameters() if value.grad is not None
    }


TOWERS: dict[str, dict[str, Any]] = {
    "CLIP": {},
    "CLIP, end by id": {"pool_type": "eos", "eos_id": 5},
    "CLIP, linear projection": {"proj_bias": True},
    "CLIP, no projection": {"proj_type": "none", "width": 32},
    "custom": {"custom": True},
    "custom, end by id": {"custom": True, "pool_type": "eos", "eos_id": 5},
    "custom, first": {"custom": True, "pool_type": "first"},
}


@pytest.mark.parametrize("options", TOWERS.values(), ids=TOWERS)
def test_a_causal_tower_embeds_short_rows_as_padded_ones(options: dict[str, Any]) -> None:
    made = model(**options)
    short, padded = rows(options.get("eos_id", END))
    embedded, of_short = gradients(made, short)
    torch.testing.assert_close(embedded, made.encode_text(padded).detach(), rtol=1e-5, atol=1e-6)
    _, of_padded = gradients(made, padded)
    assert of_short.keys() == of_padded.keys()
    for name, value in of_padded.items():
        torch.testing.assert_close(of_short[name], value, rtol=1e-4, atol=1e-5, msg=name)
    positions = next(value for name, value in of_short.items() if name.endswith("positional_embedding"))
    assert positions[SHORT:].abs().max() == 0
    assert positions[0].abs().max() > 0


def test_full_rows_go_the_models_own_way() -> None:
    made = model()
    assert torch.equal(encode_text(made, rows()[1]), made.encode_text(rows()[1]))


def test_half_precision_and_checkpointed_blocks() -> None:
    made = model()
    short, padded = rows()
    exact, of_short = gradients(made, short)
    made.set_grad_checkpointing(True)
    again, recomputed = gradients(made, short)
    assert torch.equal(again, exact)
    assert all(torch.equal(recomputed[name], value) for name, value in of_short.items())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, whole = encode_text(made, short), encode_text(made, padded)
    torch.testing.assert_close(half, whole, rtol=0.05, atol=0.05)
    torch.testing.assert_close(half.float(), exact, rtol=0.1, atol=0.1)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "siglip": ({"custom": True, "no_causal_mask": True, "pool_type": "last"}, "attend to the padding"),
    "mobileclip2": ({"no_causal_mask": True}, "attend to the padding"),
    "last": ({"pool_type": "last"}, "read at position 'last', not at the end token"),
    "coca": ({"custom": True, "embed_cls": True}, "its class token comes behind the padding"),
}


@pytest.mark.parametrize(("options", "reason"), REFUSED.values(), ids=REFUSED)
def test_towers_that_see_the_padding_are_refused(options: dict[str, Any], reason: str) -> None:
    made = model(**options)
    with pytest.raises(TowerError, match=rf"captions of {SHORT} tokens .* padded to {FULL}: .*{reason}"):
        encode_text(made, rows()[0])
    check_shorter(made, FULL)
    if options.get("pool_type") == "last" and "custom" in options:  # why: SigLIP's short row is another text
        short, padded = rows()
        other = (made.text(short) - made.text(padded)).norm() / made.text(padded).norm()
        assert other > 0.1


def test_rows_longer_than_the_context_are_refused() -> None:
    with pytest.raises(TowerError, match="captions of 17 tokens do not fit the text tower's context of 16"):
        check_shorter(model(), 17)


def test_padding_that_no_token_sees_is_cut_off() -> None:
    made = model()
    short, padded = rows()
    cut = unpadded(made, padded)
    assert cut.shape[1] == int((padded != 0).sum(1).max()) <= SHORT
    torch.testing.assert_close(encode_text(made, cut), made.encode_text(padded))
    assert unpadded(made, short) is short


@pytest.mark.parametrize("options", [options for options, _ in REFUSED.values()], ids=REFUSED)
def test_padding_that_takes_part_is_kept(options: dict[str, Any]) -> None:
    padded = rows()[1]
    assert unpadded(model(**options), padded) is padded
