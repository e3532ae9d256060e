"""Settings of the segmenter: methods by name, precision, what is refused with a message."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from patchclip import registry
from patchclip.dense import _canvas, segmenter
from patchclip.dense.labels import vocabulary
from patchclip.dense.segmenter import Inference, Segmenter
from patchclip.errors import ConfigError, TowerError
from tests.dense._planted import RAW, WORDS, ColourEncoder, photos, scores
from tests.models import _tiny


def test_auto_takes_the_head_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = _tiny.encoder()
    assert Segmenter(encoder, WORDS, replace(RAW, method="auto")).method_name == "naclip"
    head: Any = registry.build("heads", "pacl")
    head.build(64, 32)
    encoder.head = head
    made = Segmenter(encoder, WORDS, replace(RAW, method="auto"))
    assert made.method_name == "pacl"
    assert made(photos((40, 30)))[0].scores.isfinite().all()


def test_a_method_with_its_own_similarity_sees_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = _tiny.encoder()
    [image] = photos((64, 48))
    made = Segmenter(encoder, WORDS, replace(RAW, method="clip_surgery:depth=1", background_words=("sky",)))
    [canvas] = made.canvases([image])
    whole = made.method.similarity(canvas.features.flatten(0, 1)[None], made.vocabulary.texts)[0].T  # type: ignore[attr-defined]
    monkeypatch.setattr(segmenter, "CELLS", 5)
    assert torch.allclose(made.scores(canvas).flatten(1), whole, atol=1e-6)


def test_encoded_labels_are_taken_as_they_are() -> None:
    encoder = _tiny.encoder()
    words = vocabulary(encoder, WORDS, "plain", ())
    [image] = photos((40, 30))
    assert torch.equal(scores(encoder, image, RAW), Segmenter(encoder, words, RAW)([image])[0].scores)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_float32(precision: str) -> None:
    encoder = _tiny.encoder()
    [image] = photos((64, 48))
    whole = scores(encoder, image, RAW)
    encoder.precision = precision
    found = scores(encoder, image, RAW)
    assert found.dtype == torch.float32
    assert torch.allclose(found, whole, atol=0.05)


def test_features_that_overflow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = _tiny.encoder()
    with torch.no_grad():
        encoder.model.visual.proj.fill_(torch.nan)
    with pytest.raises(TowerError, match="not finite"):
        Segmenter(encoder, WORDS, RAW)(photos((40, 30)))


def test_windows_with_too_many_patches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_canvas, "MOST_TOKENS", 20)
    with pytest.raises(ConfigError, match="48 patches"):
        Segmenter(_tiny.encoder(), WORDS, replace(RAW, window=0))(photos((64, 48)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "nacklip"}, "naclip"),
        ({"method": "naclip:width=3"}, "width"),
        ({"refine": "pam"}, "pamr"),
        ({"refine": "pamr:dilations=8"}, "dilations=8 must be a list"),
        ({"refine": "pamr:dilations=[a]"}, r"dilations=\['a'\] must be a list of int"),
        ({"step": 3}, "1, 2, 4, 8"),
        ({"step": 9}, "step=9"),
    ],
)
def test_what_cannot_be_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Segmenter(_tiny.encoder(), WORDS, replace(RAW, **options))


@pytest.mark.parametrize(
    "options",
    [
        *({name: 0} for name in ("short_side", "stride", "step", "keep_labels", "batch_size")),
        {"window": -1},
        {"blend": "soft"},
        *({"scale": value} for value in (0.0, -1.0, float("nan"), float("inf"), 1e39, 10**400, "5", True)),
        *({"background": value} for value in (0.0, 1.0, "1.5", "words", "none:2", "nan", None)),
        *({"background": f"entropy:{value}"} for value in ("x", "nan", "-1", "inf")),
        *({"background_words": value} for value in ("sky", 5, ("sky", 3))),
        {"short_side": "448"},
        {"short_side": 112.5},
        {"window": "56"},
        {"step": "4"},
        {"keep_labels": "1"},
        {"keep_labels": 1.5},
        {"batch_size": 2.5},
        {"stride": True},
        {"method": None},
        {"refine": 3},
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_outside_their_range(options: dict[str, Any]) -> None:
    [(name, value)] = options.items()
    with pytest.raises(ConfigError, match=re.escape(f"{name}={value!r} must be")):
        Inference(**options)


@pytest.mark.usefixtures("unchecked")
def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    assert Inference(short_side=np.int64(448), scale=np.float32(40)).short_side == 448  # type: ignore[arg-type]
    assert Inference(background="entropy:0").entropy == 0


def test_background_rules_by_name() -> None:
    assert Inference().words is None
    assert Inference(background="none").words == ()
    assert Inference(background="0.25").threshold == Inference(background=0.25).threshold == 0.25
    assert Inference(background="entropy").entropy == 1.5
    assert Inference(background="entropy:1.2").entropy == 1.2
    assert Inference(background=0.1, background_words=("sky",)).words == ("sky",)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("L", (4, 4)), "'L'"),
        (Image.new("RGB", (0, 4)), "0 x 4"),
        ("a.jpg", "image 1 is a str"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_images(image: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Segmenter(_tiny.encoder(), WORDS, RAW)([Image.new("RGB", (4, 4)), image])


@pytest.mark.parametrize("images", [Image.new("RGB", (4, 4)), 5, None])
@pytest.mark.usefixtures("unchecked")
def test_one_image_is_no_list(images: Any) -> None:
    with pytest.raises(ConfigError, match="must be a list of PIL images"):
        Segmenter(_tiny.encoder(), WORDS, RAW)(images)


def test_more_scores_than_memory_holds_are_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = ColourEncoder()
    made = Segmenter(encoder, ["red", "blue"], Inference(method="raw", short_side=48, background="none"))
    [canvas] = made.canvases(photos((48, 48)))
    encoder.seen.clear()
    monkeypatch.setattr(segmenter, "MOST_SCORES", 72)
    assert made(photos((48, 48)))[0].scores.numel() == 72
    encoder.seen.clear()
    monkeypatch.setattr(segmenter, "MOST_SCORES", 71)
    for ask in (lambda: made(photos((48, 48))), lambda: made.scores(canvas)):
        with pytest.raises(ConfigError, match=r"2 names on 6 x 6 patches.*fewer labels.*larger step"):
            ask()
    assert encoder.seen == []
