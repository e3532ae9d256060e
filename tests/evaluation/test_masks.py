"""Figures of masks, against hand arithmetic; strategies from text; views of images."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from patchclip.data.scenes import Scene
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation import strategies as family
from patchclip.evaluation.mask_view import View, model_view, plain_view
from patchclip.evaluation.masks import (
    entropy_bits,
    jaccard,
    keep_probability,
    mean_overlap,
    overlap_matrix,
    share_kept,
)
from patchclip.evaluation.strategies import Strategy, compare, guide_of, parse
from patchclip.models.architectures import create
from patchclip.models.masked import preview
from patchclip.models.towers import ClipEncoder

NO_GUIDE = guide_of(None, None)


def picture(side: int = 32) -> Image.Image:
    """Noise on the left, one colour on the right."""
    values = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    values[:, side // 2 :] = 90
    return Image.fromarray(values)


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    tiny = {
        "embed_dim": 16,
        "vision_cfg": {"width": 32, "layers": 1, "head_width": 16, "patch_size": 8},
        "text_cfg": {"width": 16, "heads": 2, "layers": 1},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture = create("ViT-Ti-16", image_size=32, context_length=16, overrides=tiny)
    architecture.model.eval()
    return ClipEncoder(architecture)


def test_the_share_kept_counts_a_half_covered_patch_half() -> None:
    area = torch.tensor([[1.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]])
    keep = torch.tensor([[0, 1], [0, 1]])
    assert share_kept(keep, area).tolist() == [0.75, 0.0]
    assert share_kept(torch.arange(4).expand(2, -1), area).tolist() == [1.0, 1.0]
    assert share_kept(keep, torch.zeros(2, 4)).isnan().all()


def test_entropy_is_one_for_a_fair_coin_and_nothing_for_a_constant() -> None:
    coin = torch.tensor([[[0, 1]], [[2, 3]]])  # two draws of one image: each patch is kept once
    probability = keep_probability(coin, 4)
    assert probability.tolist() == [[0.5] * 4]
    assert entropy_bits(probability).tolist() == pytest.approx([1.0])
    constant = keep_probability(coin[:1].expand(16, -1, -1), 4)
    assert entropy_bits(constant).tolist() == [0.0]
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert entropy_bits(torch.tensor([[0.25, 1.0]])).tolist() == pytest.approx([quarter / 2])


def test_jaccard_of_known_sets() -> None:
    one, other = torch.tensor([[0, 1, 2], [0, 1, 2]]), torch.tensor([[2, 3], [4, 5]])
    assert jaccard(one, other, 6).tolist() == pytest.approx([1 / 4, 0.0])
    assert jaccard(one, one, 6).tolist() == [1.0, 1.0]


def test_the_overlap_matrix_meets_each_draw_with_the_next_of_the_other() -> None:
    a = torch.tensor([[[0, 1]], [[2, 3]]])
    b = torch.tensor([[[0, 1]], [[2, 3]]])  # the same draws: draw 0 of a meets draw 1 of b, which is disjoint
    c = torch.tensor([[[0, 2]], [[0, 2]]])
    overlap = overlap_matrix([a, b, c], 4)
    third = 1 / 3
    expected = torch.tensor([[1, 0, third], [0, 1, third], [third, third, 1]])
    torch.testing.assert_close(overlap, expected)
    torch.testing.assert_close(mean_overlap(overlap), torch.tensor([third / 2, third / 2, third]))
    assert mean_overlap(torch.ones(1, 1)).isnan().all()


def test_independent_random_halves_overlap_by_a_third() -> None:
    found, _ = parse("random,random", 0.5, NO_GUIDE)
    view = plain_view([Scene("a", picture(224))])
    figures = compare(found, view, draws=64)
    assert figures.overlap[0, 1].item() == pytest.approx(1 / 3, abs=0.01)
    assert figures.entropy.min().item() == pytest.approx(1 - 1 / (2 * 64 * math.log(2)), abs=0.01)
    assert figures.energy[0, 0].item() == pytest.approx(0.5, abs=0.03)
    assert figures.foreground.isnan().all()
    assert (figures.milliseconds > 0).all()


def test_edges_are_kept_by_a_masker_that_looks_for_them() -> None:
    found, _ = parse("random,pgs,resize", 0.5, NO_GUIDE)
    figures = compare(found, plain_view([Scene("a", picture(64))], 64, 8), draws=16)
    random, pgs, resize = figures.energy[:, 0].tolist()
    assert pgs > random + 0.15
    assert math.isnan(resize)
    assert figures.overlap[2].isnan().all()
    assert figures.mean_overlap.isnan().tolist() == [False, False, True]
    assert figures.entropy[2].item() == 0.0


def test_strategies_are_read_with_their_options() -> None:
    found, left_out = parse(
        "random, pgs:protect=0.2;growth_steps=1,random:mask_ratio=[0.3,0.5]", 0.25, NO_GUIDE
    )
    assert [s.name for s in found] == ["random", "pgs", "random"]
    assert found[1].options == {"protect": 0.2, "growth_steps": 1}
    assert found[1].label == "pgs (protect 0.2, growth_steps 1)"
    assert found[0].masker.kept(16, 0.0) == found[1].masker.kept(16, 0.0) == 12
    assert found[2].masker.mask_ratio == (0.3, 0.5)  # type: ignore[attr-defined]
    assert left_out == []


@pytest.mark.parametrize(
    ("text", "ratio", "words"),
    [
        ("pqs", 0.5, "did you mean 'pgs'"),
        ("pgs:protct=1", 0.5, "did you mean 'protect'"),
        ("pgs:protect", 0.5, "must read NAME"),
        ("pgs:protect={", 0.5, "is not YAML"),
        ("random", 1.0, r"ratio=1.0 must be in \[0, 1\)"),
        ("random", -0.1, r"ratio=-0.1 must be in"),
        (" , ", 0.5, "names no masker"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, ratio: float, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(text, ratio, NO_GUIDE)


@dataclass
class Looking:
    """A guided masker: keeps the first patch of highest score."""

    score: str = "attention"
    scorer: Any = None

    def kept(self, patches: int, progress: float) -> int:
        return 1

    def select(self, pixels: Tensor, tokens: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        return self.scorer(pixels, tokens.shape[1]).argmax(dim=1, keepdim=True)


def test_all_leaves_out_what_needs_a_guide_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    real = family.registry.build
    monkeypatch.setattr(family.registry, "names", lambda kind: ["none", "looking", "pgs", "random"])
    monkeypatch.setattr(family.registry, "accepts", lambda kind, name, option: name != "looking")
    monkeypatch.setattr(
        family.registry,
        "build",
        lambda kind, name, **o: Looking() if name == "looking" else real(kind, name, **o),
    )
    found, left_out = parse("all", 0.5, NO_GUIDE)
    assert [s.name for s in found] == ["random", "pgs"]
    [(name, reason)] = left_out
    assert name == "looking"
    assert "--model" in reason
    with pytest.raises(ConfigError, match="--model"):
        parse("looking", 0.5, NO_GUIDE)


@pytest.mark.parametrize("score", ["attention", "text"])
def test_a_model_guides_by_its_attention_or_by_a_text(
    score: str, encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched:
        """Stands in for models/guide.Guide: scores count from the last patch, and tell what was asked."""

        tokens: Tensor | None = None

        def __init__(self, model: Any, score: str, **settings: Any) -> None:
            self.asked = (model, score, settings)

        def read(self, tokens: Tensor) -> None:
            self.tokens = tokens

        def __call__(self, pixels: Tensor, patches: int) -> Tensor:
            seen.append((self.asked, self.tokens))
            return torch.arange(float(patches)).expand(len(pixels), -1)

    seen: list[Any] = []
    monkeypatch.setattr(family, "Guide", Watched)
    masker = Looking(score)
    guide_of(encoder, "a cat")(masker)
    view = model_view([Scene(str(i), picture()) for i in range(2)], encoder)
    assert Strategy("looking", masker).keep(view, 0).tolist() == [[15], [15]]
    [((model, asked, settings), tokens)] = seen
    assert (model, asked, settings) == (encoder.model, score, {})
    words = encoder.tokenizer(["a cat"])
    assert (tokens is None) if score == "attention" else torch.equal(tokens, words)
    if score == "text":
        with pytest.raises(ConfigError, match="--text"):
            guide_of(encoder, None)(masker)


def test_a_guide_looks_once_a_figure_but_its_time_counts() -> None:
    calls = []

    def scorer(pixels: Tensor, patches: int) -> Tensor:
        calls.append(patches)
        return torch.arange(float(patches)).expand(len(pixels), -1)

    strategy = Strategy("looking", Looking(scorer=scorer))
    figures = compare([strategy], plain_view([Scene("a", picture())], 32, 8), draws=32)
    assert len(calls) == 1 + family.GUIDE_REPEATS + 1
    assert figures.entropy.tolist() == [[0.0]]
    assert strategy.masker.scorer is scorer  # type: ignore[attr-defined]


def test_without_a_model_tokens_are_the_pixels_of_each_patch() -> None:
    view = plain_view([Scene("a", picture(), Image.new("L", (32, 32), 255))], 32, 8)
    assert view.grid == (4, 4)
    assert view.tokens.shape == (1, 16, 3 * 64)
    torch.testing.assert_close(view.tokens[0, 5].view(3, 8, 8), view.pixels[0, :, 8:16, 8:16])
    assert np.array_equal(view.pictures[0].numpy(), np.asarray(picture()))
    assert view.area.tolist() == [[1.0] * 16]


def test_the_mask_goes_the_way_of_its_image() -> None:
    mask = Image.new("L", (64, 32))
    mask.paste(255, (0, 0, 36, 32))  # the square crop shows columns 16 to 48: 20 of its 32 are foreground
    view = plain_view([Scene("a", Image.new("RGB", (64, 32)), mask), Scene("b", picture())], 32, 8)
    assert view.area[0].view(4, 4).tolist() == [pytest.approx([1, 1, 0.5, 0], abs=0.01)] * 4
    assert view.area[1].isnan().all()
    outside = Image.new("L", (64, 32))
    outside.paste(255, (0, 0, 9, 32))
    with pytest.raises(DataError, match="no foreground is left"):
        plain_view([Scene("a", Image.new("RGB", (64, 32)), outside)], 32, 8)


def test_patches_must_tile_the_crop() -> None:
    with pytest.raises(ConfigError, match="use size=224"):
        plain_view([Scene("a", picture())], 225, 16)
    with pytest.raises(ConfigError, match="patch=0"):
        plain_view([Scene("a", picture())], 32, 0)


def test_with_a_model_masks_are_those_of_its_training(encoder: ClipEncoder) -> None:
    scenes = [Scene(str(i), picture(40 + i), Image.new("L", (40 + i, 40 + i), 255)) for i in range(18)]
    view = model_view(scenes, encoder, 0.7)
    assert (view.grid, view.progress, len(view.tokens)) == ((4, 4), 0.7, 18)
    pixels = torch.stack([encoder.preprocess(scene.image) for scene in scenes])
    for name in ("random", "pgs"):
        [strategy], _ = parse(name, 0.5, NO_GUIDE)
        expected = preview(encoder, strategy.masker, pixels, 0.7, seed=3)
        assert torch.equal(strategy.keep(view, 3), expected)
    assert (view.area == 1).all()
    with pytest.raises(ConfigError, match="progress=2"):
        model_view(scenes, encoder, 2.0)


def test_a_mask_that_keeps_all_is_drawn_without_asking_it() -> None:
    view: View = plain_view([Scene("a", picture())], 32, 8)
    [strategy], _ = parse("none", 0.5, NO_GUIDE)
    assert strategy.keep(view, 0).tolist() == [list(range(16))]
