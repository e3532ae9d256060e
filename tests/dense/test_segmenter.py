"""The segmenter: direct reading, windows, batches, the field's plain loop, real pictures, bad input."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from patchclip.dense import _pixels
from patchclip.dense.segmenter import Inference, Segmenter
from patchclip.models.towers import ClipEncoder
from tests.dense import _planted
from tests.dense._planted import COLOURS, RAW, WORDS, ColourEncoder, photos, scores
from tests.models import _tiny


def test_one_window_is_the_direct_reading() -> None:
    encoder = _tiny.encoder()
    [image] = photos((32, 32))
    [found] = Segmenter(encoder, WORDS, replace(RAW, short_side=32))([image])
    pixels = encoder.preprocess(image)[None]
    patches = encoder.patch_features(pixels)
    texts = encoder.encode_text(encoder.tokenizer(WORDS))
    expected = (patches.features[0] @ texts.T).T.unflatten(1, patches.grid)
    assert torch.allclose(found.scores, expected, atol=1e-5)
    logits = F.interpolate(expected[None], size=(32, 32), mode="bilinear")[0]
    gap = logits.topk(2, dim=0).values.diff(dim=0)[0].abs() > 1e-4
    assert torch.equal(torch.from_numpy(found.label_map)[gap], logits.argmax(0)[gap] + 1)


def test_a_window_over_the_whole_image_is_the_whole_image() -> None:
    encoder = _tiny.encoder()
    [image] = photos((64, 48))
    whole = scores(encoder, image, replace(RAW, window=0))
    assert torch.equal(scores(encoder, image, replace(RAW, window=64)), whole)


def test_windows_are_averaged_by_hand() -> None:
    encoder = _tiny.encoder()
    [image] = photos((64, 48))
    found = scores(encoder, image, replace(RAW, window=32, stride=16))
    config = encoder.architecture.preprocess_cfg
    pixels = _pixels.normalised(_pixels.resized(image, (48, 64), config), config)
    texts = encoder.encode_text(encoder.tokenizer(WORDS))
    total, count = torch.zeros(3, 6, 8), torch.zeros(6, 8)
    for top in (0, 2):
        for left in (0, 2, 4):
            view = pixels[None, :, 8 * top : 8 * top + 32, 8 * left : 8 * left + 32]
            cosines = encoder.patch_features(view).features[0] @ texts.T
            total[:, top : top + 4, left : left + 4] += cosines.T.unflatten(1, (4, 4))
            count[top : top + 4, left : left + 4] += 1
    assert torch.allclose(found, total / count, atol=1e-5), "mean of cosines = cosine with the mean"


@pytest.mark.parametrize("blend", ["mean", "ramp"])
@pytest.mark.parametrize("batch_size", [None, 1, 3, 100])
def test_several_images_are_each_alone(blend: str, batch_size: int | None) -> None:
    encoder = _tiny.encoder()
    inference = replace(RAW, blend=blend, batch_size=batch_size)
    images = photos((64, 48), (20, 90), (1, 1), (48, 64), (64, 48))
    together = Segmenter(encoder, WORDS, inference)(images)
    for image, found in zip(images, together, strict=True):
        [alone] = Segmenter(encoder, WORDS, inference)([image])
        assert torch.allclose(found.scores, alone.scores, atol=1e-5)
        assert found.label_map.shape == (image.height, image.width)
        assert found.image is image


def test_windows_of_several_images_share_a_forward_pass() -> None:
    encoder = ColourEncoder()
    images = [_planted.squares(4, 4)[0], _planted.squares(4, 6)[0]]
    Segmenter(encoder, ["red", "blue"], Inference(method="raw", background="none", batch_size=64))(images)
    assert encoder.seen == [(9 + 15, 3, 16, 16)]
    encoder.seen.clear()
    Segmenter(encoder, ["red", "blue"], Inference(method="raw", background="none", batch_size=5))(images)
    assert max(shape[0] for shape in encoder.seen) == 5


def test_it_gives_the_same_twice() -> None:
    encoder = _tiny.encoder()
    images = photos((64, 48), (40, 40))
    first, second = (Segmenter(encoder, WORDS, RAW)(images) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.scores, b.scores)
        assert np.array_equal(a.label_map, b.label_map)


def plain_loop(encoder: ClipEncoder, image: Image.Image, plan: Any, scale: float) -> np.ndarray:
    """As the field does it: every window's logits to pixels, summed and divided by how often each is seen."""
    config = encoder.architecture.preprocess_cfg
    pixels = _pixels.normalised(_pixels.resized(image, plan.size, config), config)[None]
    texts = encoder.encode_text(encoder.tokenizer(WORDS))
    total, count = torch.zeros(len(texts), *plan.size), torch.zeros(plan.size)
    height, width = plan.window
    for row, column in plan.corners:
        top, left = row * plan.sizes.step, column * plan.sizes.step
        view = pixels[:, :, top : top + height, left : left + width]
        patches = encoder.patch_features(view)
        logits = (patches.features @ texts.T).transpose(1, 2).unflatten(2, patches.grid)
        logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
        total[:, top : top + height, left : left + width] += logits[0]
        count[top : top + height, left : left + width] += 1
    logits = F.interpolate((total / count)[None], size=(image.height, image.width), mode="bilinear")
    found: np.ndarray = ((logits[0] * scale).softmax(0).argmax(0) + 1).numpy()
    return found


def test_most_pixels_are_those_of_the_fields_plain_loop() -> None:
    encoder = _tiny.encoder()
    equal = []
    for image in photos((100, 75), (75, 100), (90, 90), (120, 60)):
        made = Segmenter(encoder, WORDS, replace(RAW, window=32, stride=16))
        [canvas] = made.canvases([image])
        [found] = made([image])
        equal.append((found.label_map == plain_loop(encoder, image, canvas.plan, made.scale)).mean())
    assert np.mean(equal) > 0.9


def test_labels_of_real_pictures_are_their_colours() -> None:
    encoder = ColourEncoder()
    names = list(COLOURS)
    texts = encoder.encode_text(torch.arange(len(names))[:, None]).numpy()
    for image, _, _ in _planted.scenes(6):
        [found] = Segmenter(
            encoder, names, Inference(method="raw", window=16, short_side=224, background="none")
        )([image])
        colours = np.asarray(image, np.float64) / 255
        patches = colours.reshape(28, 8, 28, 8, 3).mean(axis=(1, 3))
        features = np.concatenate([patches - 0.5, np.full((28, 28, 1), 0.05)], axis=-1)
        features /= np.linalg.norm(features, axis=-1, keepdims=True)
        cosines = features @ texts.T
        best = np.sort(cosines, axis=-1)
        sure = (best[..., -1] - best[..., -2]) > 1e-4
        centres = (
            found.label_map.reshape(28, 8, 28, 8)[:, 3:5, :, 3:5].transpose(0, 2, 1, 3).reshape(28, 28, 4)
        )
        expected = cosines.argmax(axis=-1) + 1
        agree = (centres == expected[..., None]).all(axis=-1)
        assert agree[sure].mean() > 0.93, "four pixels around a patch's centre: neighbours count 1/16"
        flat: Any = np.stack([np.roll(expected, s, a) == expected for s in (1, -1) for a in (0, 1)]).all(
            axis=0
        )
        flat[[0, -1]], flat[:, [0, -1]] = False, False
        assert agree[flat & sure].mean() > 0.99


def test_squares_of_colour_come_back() -> None:
    image, numbers = _planted.squares(4, 6, side=16)
    [found] = Segmenter(
        ColourEncoder(), list(COLOURS), Inference(method="raw", short_side=64, background="none")
    )([image])
    assert np.array_equal(found.label_map[4::8, 4::8][::2, ::2], numbers)


def test_overlapping_patches_give_a_finer_canvas() -> None:
    image, _ = _planted.squares(4, 6, side=16)
    asked = Inference(method="raw", short_side=64, background="none", step=2)
    [found] = Segmenter(ColourEncoder(), list(COLOURS), asked)([image])
    assert found.scores.shape == (6, 29, 45)
    assert (found.details["patch"], found.details["step"]) == (8, 2)
    coarse = scores(_tiny.encoder(), image, replace(RAW, short_side=64))
    fine = scores(_tiny.encoder(), image, replace(RAW, short_side=64, step=4))
    assert (coarse.shape[1:], fine.shape[1:]) == ((8, 12), (15, 23))


def test_words_for_the_background_take_what_is_no_label() -> None:
    image, numbers = _planted.squares(4, 6, side=16)
    asked = Inference(method="raw", short_side=64, background="none", background_words=("blue", "white"))
    labels = ["red", "green", "yellow", "black"]
    [found] = Segmenter(ColourEncoder(), labels, asked)([image])
    expected = np.array([0, 1, 2, 0, 3, 0, 4])[numbers]
    assert np.array_equal(found.label_map[4::16, 4::16], expected)
    assert found.scores.shape[0] == 4, "words are no labels"


def test_a_synonym_is_its_label() -> None:
    image, numbers = _planted.squares(4, 6, side=16)
    labels = [("red", "yellow"), ("green",), ("blue", "white"), ("black",)]
    asked = Inference(method="raw", short_side=64, background="none")
    [found] = Segmenter(ColourEncoder(), labels, asked)([image])
    assert np.array_equal(found.label_map[4::16, 4::16], np.array([0, 1, 2, 3, 1, 3, 4])[numbers])
    assert found.labels == ("red", "green", "blue", "black")


def test_thresholds_are_those_of_the_softmax() -> None:
    encoder = ColourEncoder()
    [image] = photos((96, 64))
    asked = Inference(method="raw", background="none", short_side=64)
    names = list(COLOURS)
    [plain] = Segmenter(encoder, names, asked)([image])
    logits = F.interpolate(plain.scores[None] * encoder.scale, size=(64, 96), mode="bilinear")[0]
    chances = logits.softmax(0)
    [found] = Segmenter(encoder, names, replace(asked, background=0.9))([image])
    expected = torch.where(chances.amax(0) < 0.9, 0, chances.argmax(0) + 1).numpy()
    assert (found.label_map == expected).mean() > 0.999
    assert 0.005 < (found.label_map == 0).mean() < 0.995
    entropy = -(chances * logits.log_softmax(0)).sum(0)
    [found] = Segmenter(encoder, names, replace(asked, background="entropy:0.5"))([image])
    expected = torch.where(entropy > 0.5, 0, chances.argmax(0) + 1).numpy()
    assert (found.label_map == expected).mean() > 0.999
    assert 0.005 < (found.label_map == 0).mean() < 0.995


def test_only_the_best_labels_are_kept() -> None:
    image = Image.new("RGB", (64, 64), "red")
    image.paste("blue", (0, 0, 32, 64))
    asked = Inference(method="raw", short_side=64, background=0.5, scale=1.0)
    names = list(COLOURS)
    [everything] = Segmenter(ColourEncoder(), names, asked)([image])
    [kept] = Segmenter(ColourEncoder(), names, replace(asked, keep_labels=2))([image])
    assert (everything.label_map == 0).mean() > 0.9, "six labels share the probability"
    assert set(np.unique(kept.label_map[:, 8:24])) == {3}
    assert set(np.unique(kept.label_map[:, 40:56])) == {1}
    assert kept.scores.shape == everything.scores.shape


@pytest.mark.parametrize("refine", ["pamr:dilations=[1, 2]", "bilateral"])
def test_refinement_brings_borders_to_edges(refine: str) -> None:
    """The edge lies within a patch: bilinear scores miss it by up to half a patch."""
    image = Image.new("RGB", (64, 64), "red")
    image.paste("blue", (0, 0, 29, 64))
    truth = np.where(np.arange(64) < 29, 3, 1)[None].repeat(64, 0)
    asked = Inference(method="raw", short_side=64, background="none")
    [plain] = Segmenter(ColourEncoder(), list(COLOURS), asked)([image])
    [refined] = Segmenter(ColourEncoder(), list(COLOURS), replace(asked, refine=refine))([image])
    assert (plain.label_map != truth).mean() > 0.01
    assert (refined.label_map != truth).mean() < 0.5 * (plain.label_map != truth).mean()
