"""Extras of a loss: companions behind each caption, the towers as they were, draws, a frozen text tower."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchclip.config import TrainConfig, load_config
from patchclip.engine import extras
from patchclip.engine.extras import (
    Extras,
    WithCompanions,
    build_extras,
    check_wants,
    made_whole,
    wants_of,
)
from patchclip.engine.ranks.distributed import GatheredLoss, World
from patchclip.engine.step import ContrastiveStep, Towers
from patchclip.errors import ConfigError
from patchclip.losses.euclip import EuCLIPLoss
from patchclip.masking.none import NoMask
from patchclip.models.masked import attach
from tests.data._make import ListSource
from tests.engine._tiny import architecture, write_pairs

CPU = torch.device("cpu")
SEED = (3, 17, 0)


class Against(nn.Module):
    """Pushes images from false captions and from the teacher's, by numbers that it draws."""

    wants = ("negative_text", "generator", "teacher_image", "teacher_text", "teacher_scale")

    def forward(
        self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None, **extras: Any
    ) -> dict[str, Tensor]:
        drawn = torch.rand(len(image), generator=extras["generator"])
        false = (image * extras["negative_text"]).sum(1)
        held = ((image - extras["teacher_image"]) ** 2 + (text - extras["teacher_text"]) ** 2).sum(1)
        own = -(image * text).sum(1) * scale
        return {"contrastive": (own + drawn * false).mean(), "held": held.mean() * extras["teacher_scale"]}


def tokens_of(b: int, n: int) -> Tensor:
    """[b, n, s]; the last companion of the first pair is not there."""
    drawn = torch.randint(1, 1000, (b, n, 16), generator=torch.Generator().manual_seed(2))
    drawn[..., -1] = 49407  # end of text
    drawn[0, -1] = 0
    return drawn


def rig(micro_batch: int | None) -> tuple[nn.Module, ContrastiveStep]:
    torch.manual_seed(0)
    made = architecture()
    model = made.model.train()
    extras = build_extras(TrainConfig(), made, Against(), CPU, contextlib.nullcontext, micro_batch)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    loss = GatheredLoss(WithCompanions(Against(), ["negative_text"]), World())
    step = ContrastiveStep(Towers(model), loss, None, micro_batch, contextlib.nullcontext, extras=extras)
    return model, step


def stepped(micro_batch: int | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model, step = rig(micro_batch)
    pixels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    terms = step(pixels, tokens_of(6, 2), SEED, lambda loss: loss)
    return terms, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_companions_are_embedded_as_captions_are_and_missing_ones_are_zeros() -> None:
    torch.manual_seed(0)
    towers = Towers(architecture().model.eval())
    tokens = tokens_of(3, 3)
    _, text, *_ = towers(torch.randn(3, 3, 32, 32), tokens)
    assert text.shape == (3, 3, 32)
    assert not text[0, 2].any()
    for row, column in ((0, 0), (1, 2), (2, 1)):
        _, alone, *_ = towers(torch.randn(1, 3, 32, 32), tokens[row, column][None])
        torch.testing.assert_close(text[row, column], alone[0])


def test_a_missing_companion_gives_no_gradient_that_is_not_finite() -> None:
    _, gradients = stepped(None)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_embeddings_stay_as_they_are_where_the_loss_takes_them_so() -> None:
    torch.manual_seed(0)
    model = architecture().model.eval()
    pixels, tokens = torch.randn(2, 3, 32, 32), tokens_of(2, 1)[:, 0]
    tokens[0] = tokens[1]
    raw, unit = Towers(model, unit_length=False), Towers(model)
    for one, other in zip(raw(pixels, tokens)[:2], unit(pixels, tokens)[:2], strict=True):
        assert not torch.allclose(one.norm(dim=-1), torch.ones(2), atol=0.01)
        torch.testing.assert_close(F.normalize(one, dim=-1), other)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_micro_batches_give_the_gradient_of_the_whole_batch(size: int) -> None:
    terms, gradients = stepped(None)
    again, others = stepped(size)
    assert gradients.keys() == others.keys()
    for name, value in terms.items():
        torch.testing.assert_close(again[name], value)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-5)


def test_the_teacher_is_the_model_before_training_and_stays() -> None:
    model, step = rig(None)
    assert step.extras is not None
    pixels, tokens = torch.randn(2, 3, 32, 32), tokens_of(2, 1)[:, 0]
    tokens[0] = tokens[1]
    before = step.extras(pixels, tokens, (0, 0))
    torch.manual_seed(0)
    first = Towers(architecture().model.eval())(pixels, tokens)
    torch.testing.assert_close(before["teacher_image"], first[0])
    torch.testing.assert_close(before["teacher_text"], first[1])
    torch.testing.assert_close(before["teacher_scale"], first[2])
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    after = step.extras(pixels, tokens, (0, 0))
    assert torch.equal(after["teacher_image"], before["teacher_image"])
    assert not any(before[name].requires_grad for name in ("teacher_image", "teacher_text", "teacher_scale"))


def test_a_teacher_of_raw_embeddings_gives_them_raw() -> None:
    made = architecture()
    pixels, tokens = torch.randn(2, 3, 32, 32), tokens_of(2, 1)[:, 0]
    tokens[0] = tokens[1]
    loss = Against()
    loss.unit_length = False
    extras = build_extras(TrainConfig(), made, loss, CPU, contextlib.nullcontext, None)
    assert extras is not None
    found = extras(pixels, tokens, (0, 0))
    expected = Towers(made.model.eval(), unit_length=False)(pixels, tokens)
    torch.testing.assert_close(found["teacher_image"], expected[0])
    torch.testing.assert_close(found["teacher_text"], expected[1])


def test_draws_follow_the_step_alone() -> None:
    extras = Extras(("generator",), CPU, contextlib.nullcontext)
    nothing = torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, dtype=torch.int64)
    first, same, next_ = (
        torch.rand(3, generator=extras(*nothing, seed)["generator"]) for seed in ((0, 1), (0, 1), (0, 2))
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, next_)


def test_a_loss_that_wants_nothing_costs_nothing() -> None:
    assert build_extras(TrainConfig(), architecture(), nn.Identity(), CPU, contextlib.nullcontext, 2) is None
    assert wants_of(nn.Identity()) == ()


class Wanting:
    def __init__(self, *wants: str) -> None:
        self.wants = wants


def config(*settings: str) -> TrainConfig:
    return load_config(None, list(settings))


@pytest.mark.parametrize(
    ("loss", "settings", "words"),
    [
        (Wanting("negative_image"), (), "call it from Python"),
        (Wanting("negative_text"), (), "set data.negatives=hard"),
        (Wanting(), ("data.negatives=swap",), "does not look at false captions"),
        (Wanting("teacher_text"), (), "set model.pretrained"),
        (Wanting("generator"), ("head.name=pacl",), "a head is not trained with"),
        (
            EuCLIPLoss("hyperbolic_inner"),
            ("train.ema=0.9", "loss.name=euclip"),
            r"train\.ema=0\.9 .*loss\.name=euclip .*log_image, log_text, log_curvature.* set train\.ema=0",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(loss: Any, settings: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_wants(config(*settings), loss)


def test_what_goes_together_passes() -> None:
    check_wants(config("data.negatives=swap"), Wanting("negative_text", "generator"))
    check_wants(config("model.pretrained=openai"), Wanting("teacher_text", "short_text"))
    check_wants(config("train.ema=0.9"), EuCLIPLoss())
    check_wants(config(), EuCLIPLoss("hyperbolic"))


class Around(nn.Module):
    """Wraps a loss."""

    def __init__(self, wraps: str) -> None:
        super().__init__()
        self.wraps, self.inner = wraps, None


def test_a_loss_inside_another_is_built_with_its_options() -> None:
    made: Any = made_whole(Around("clip:label_smoothing=0.1+truncate=0.2"))
    assert (made.inner.label_smoothing, made.inner.truncate) == (0.1, 0.2)


def test_an_unknown_loss_inside_another_is_named() -> None:
    with pytest.raises(ConfigError, match="clipp"):
        made_whole(Around("clipp"))


@pytest.mark.parametrize("name", ["attentive", "attentive:simclr=0.0", "pacl", "matryoshka", "euclip"])
def test_a_loss_that_reads_more_than_embeddings_cannot_stand_inside_another(name: str) -> None:
    with pytest.raises(ConfigError, match=f"loss.wraps='{name}' cannot stand inside Around"):
        made_whole(Around(name))


def test_a_teacher_of_stages_takes_their_smaller_images_as_the_model_does() -> None:
    made = architecture()
    stages = config("train.stages=[{until: 0.5, image_size: 16}, {until: 1.0}]")
    extras = build_extras(stages, made, Against(), CPU, contextlib.nullcontext, None)
    assert extras is not None
    model = made.model.eval()
    attach(model, NoMask())
    for size in (16, 32):
        pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
        found = extras(pixels, tokens_of(2, 1)[:, 0], (0, 0))
        with torch.no_grad():
            expected = F.normalize(model.encode_image(pixels), dim=-1)
        torch.testing.assert_close(found["teacher_image"], expected, rtol=0, atol=0)


def test_a_run_with_false_captions_and_a_teacher_trains(tmp_path: Path) -> None:
    """Through the whole engine: the stream's companions reach the loss as rows."""
    from patchclip.engine.assemble import assemble

    write_pairs(tmp_path / "pairs.tar")
    settings = [
        f"data.pairs={tmp_path / 'pairs.tar'}",
        *("data.negatives=swap", "loss.name=triplet", "train.batch_size=6", "train.device=cpu"),
        *("model.image_size=32", "model.context_length=16", "masking.name=none", "train.max_steps=1"),
        "model.overrides={embed_dim: 32, vision_cfg: {layers: 1, width: 64, patch_size: 8, head_width: 32}, "
        "text_cfg: {layers: 1, width: 32, heads: 2}}",
        f"output={tmp_path / 'run'}",
    ]
    parts = assemble(config(*settings), World(), CPU)
    batch = next(parts.stream.batches(0))
    assert batch.tokens.shape == (6, 2, 16)
    assert (batch.tokens[:, 0] != batch.tokens[:, 1]).any(dim=-1).all()
    terms = parts.gradients(*parts.to_device(batch), (0, 0, 0), lambda loss: loss)
    assert all(value.isfinite() for value in terms.values())


class Asked(ListSource):
    """So many pairs, and how many were asked for their captions."""

    def __init__(self, count: int) -> None:
        super().__init__([("a red dog and a blue cat",)] * count)
        self.asked = 0

    def texts(self, i: int) -> tuple[str, ...]:
        self.asked += 1
        return super().texts(i)


def test_a_corruptor_learns_of_so_many_pairs_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "READ", 10)
    for count in (0, 1, 10, 19, 20, 101):
        source = Asked(count)
        extras.corruptor_of("hard", source)
        assert min(count, 6) <= source.asked <= 10


@pytest.mark.parametrize("chosen", ["remove", "remove:longest=2"])
def test_captions_that_only_say_less_are_no_false_ones(chosen: str) -> None:
    with pytest.raises(ConfigError, match=r"remove.* must make captions false.* set data.negatives=hard"):
        extras.corruptor_of(chosen, ListSource([]))
