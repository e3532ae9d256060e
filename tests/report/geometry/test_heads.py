"""Layers and heads: shares of the variance, and words."""

from pathlib import Path

import pytest
import torch

from patchclip.errors import DataError, TowerError
from patchclip.report.geometry.heads import take_apart, vocabulary
from patchclip.report.geometry.measure import measure
from tests.report.geometry._tiny import CAPTIONS, captioned, embedder

NOUNS = """apple bird boat book bottle bridge bus cake camera car cat chair church clock cow cup desk dog door
duck elephant fish flower fork hat horse house kite knife lamp lemon mountain mug orange piano pizza plate
sheep shoe spoon table train tree window zebra"""


def test_shares_of_all_parts_sum_to_one_and_parts_to_the_embedding(tmp_path: Path) -> None:
    reader, data = embedder(), captioned(tmp_path)
    found = measure(reader, data)
    apart = take_apart(reader, data, found.image.rows, found.rows, CAPTIONS)
    assert sum(apart.attention) + sum(apart.mlps) + apart.rest == pytest.approx(1, abs=1e-5)
    assert apart.error < 1e-4
    assert (apart.images, apart.texts) == (9, 9)
    by_layer = {layer: sum(h.share for h in apart.heads if h.layer == layer) for layer in (0, 1)}
    for layer, share in by_layer.items():
        assert share == pytest.approx(apart.attention[layer], abs=1e-5)
    assert [head.layer for head in apart.heads] == [1, 1, 0, 0]
    assert apart.heads[0].share >= apart.heads[1].share
    for head in apart.heads:
        assert len(head.words) == len({text for text, _ in head.words}) <= 5
        assert 0 < sum(share for _, share in head.words) <= 1 + 1e-9
        assert set(head.rows) <= set(range(9))


def test_a_head_that_is_silent_is_left_out(tmp_path: Path) -> None:
    reader, data = embedder(), captioned(tmp_path)
    with torch.no_grad():
        reader.encoder.model.visual.transformer.resblocks[1].attn.out_proj.weight[:, :32] = 0
    found = measure(reader, data)
    apart = take_apart(reader, data, found.image.rows, found.rows, CAPTIONS)
    assert [(head.layer, head.number) for head in apart.heads if head.layer == 1] == [(1, 1)]


def test_words_are_the_captions_nouns_the_most_frequent_first() -> None:
    captions = [f"a photo of a {noun}" for noun in NOUNS.split()] + ["a big dog and a red dog", "a dog"]
    words = vocabulary(captions)
    assert words[0] == "dog"
    assert set(words) == set(NOUNS.split())
    assert len(words) == len(set(words))
    assert vocabulary(["a cat", "a cat", "a dog"]) == ["a cat", "a dog"]  # too few nouns


def test_what_cannot_be_taken_apart_is_said(tmp_path: Path) -> None:
    data = captioned(tmp_path)
    reader = embedder("resnet")
    found = measure(reader, data)
    with pytest.raises(TowerError, match="cannot be taken apart"):
        take_apart(reader, data, found.image.rows, found.rows, CAPTIONS)
    with pytest.raises(DataError, match="0 words to describe heads with"):
        take_apart(reader, data, found.image.rows, found.rows, [])
