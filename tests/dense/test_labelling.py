"""The rules of a label map one at a time: thresholds, labels kept, the size of a refinement."""

import math
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from patchclip.dense import _windows
from patchclip.dense._labelling import Labeller
from patchclip.dense._windows import Plan, Sizes
from patchclip.dense.inference import Inference
from patchclip.dense.labels import Vocabulary


def words(*owner: int) -> Vocabulary:
    labels = tuple(f"label {i}" for i in range(1, max(owner) + 1))
    names = tuple(f"name {i}" for i in range(len(owner)))
    return Vocabulary(labels, names, torch.tensor(owner), torch.eye(len(owner)), ("{}",))


def planned(width: int, height: int) -> Plan:
    return _windows.plan(width, height, Sizes(8, 8, 32, 0, 16))


def cells(plan: Plan, *scores: float) -> Tensor:
    return torch.tensor(scores)[:, None, None].expand(-1, *plan.grid).contiguous()


@pytest.mark.parametrize(("threshold", "label"), [(0.59, 1), (0.61, 0)])
def test_a_threshold_is_met_to_a_hundredth(threshold: float, label: int) -> None:
    image, plan = Image.new("RGB", (32, 32)), planned(32, 32)
    labeller = Labeller(words(1, 2), Inference(background=threshold), 1.0)
    assert (labeller(cells(plan, math.log(0.6), math.log(0.4)), plan, image) == label).all()


def test_a_pixel_at_the_threshold_keeps_its_label() -> None:
    image, plan = Image.new("RGB", (32, 32)), planned(32, 32)
    labeller = Labeller(words(1, 2), Inference(background=0.5), 1.0)
    assert (labeller(cells(plan, 0.25, 0.25), plan, image) == 1).all()


@pytest.mark.parametrize(("nats", "label"), [(0.68, 0), (0.70, 1)])
def test_an_entropy_is_met_to_a_hundredth(nats: float, label: int) -> None:
    """Two names alike have log 2 = 0.693 nats."""
    image, plan = Image.new("RGB", (32, 32)), planned(32, 32)
    labeller = Labeller(words(1, 2), Inference(background=f"entropy:{nats}"), 1.0)
    assert (labeller(cells(plan, 0.25, 0.25), plan, image) == label).all()


def test_words_for_the_background_stay_beside_the_labels_kept() -> None:
    image, plan = Image.new("RGB", (32, 32)), planned(32, 32)
    labeller = Labeller(words(1, 2, 0, 2), Inference(background="none", keep_labels=1), 10.0)
    assert labeller.kept(cells(plan, 0.3, 0.1, 0.9, 0.2)).tolist() == [0, 2]
    assert (labeller(cells(plan, 0.3, 0.1, 0.9, 0.2), plan, image) == 0).all()
    assert labeller.kept(cells(plan, 0.3, 0.1, 0.9, 0.4)).tolist() == [1, 2, 3]


def test_all_names_take_part_without_a_copy() -> None:
    plan = planned(32, 32)
    scores, seen = cells(plan, 0.3, 0.1), []

    class Watched(Labeller):
        def refined(self, layer: Any, image: Image.Image) -> Any:
            seen.append(layer.scores)
            return [layer]

    Watched(words(1, 2), Inference(background="none"), 1.0, object())(
        scores, plan, Image.new("RGB", (32, 32))
    )
    assert seen[0].data_ptr() == scores.data_ptr()


@pytest.mark.parametrize(
    ("picture", "fine"),
    [((20, 20), (20, 20)), ((90, 90), (32, 32)), ((20, 40), (40, 20)), ((60, 120), (64, 32))],
)
def test_refinement_works_at_the_smaller_size(picture: tuple[int, int], fine: tuple[int, int]) -> None:
    """A short side of 32 px is seen: pictures below it are refined in their own size."""
    sizes = []

    def refine(scores: Tensor, image: Tensor) -> Tensor:
        sizes.append((tuple(scores.shape[1:]), tuple(image.shape[1:])))
        return scores

    image, plan = Image.new("RGB", picture), planned(*picture)
    labeller = Labeller(words(1, 2), Inference(background="none"), 1.0, refine)
    assert labeller(cells(plan, 0.2, 0.3), plan, image).shape == (picture[1], picture[0])
    assert sizes == [(fine, fine)]
