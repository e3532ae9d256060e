from dataclasses import replace

import numpy as np
import pytest

from patchclip.data.layouts.segment_classes import class_list, known_lists
from patchclip.data.sets import Segmented
from patchclip.dense import _windows
from patchclip.dense.labels import templates_of
from patchclip.dense.segmenter import sizes_of
from patchclip.errors import ConfigError
from patchclip.evaluation.protocols import DEFAULT, PRESETS, Protocol, preset

from ._coloured import squares

PLAN = [["rrgg"] * 4]


def with_background(*names: str) -> Segmented:
    benchmark = squares(PLAN, PLAN, "krg", background=0)
    return replace(benchmark, synonyms=(names, ("red",), ("green",)))


def test_every_known_set_has_a_preset_of_its_name() -> None:
    assert set(known_lists()) <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_its_source_and_gives_settings(name: str) -> None:
    found = preset(name)
    assert found.name == name
    assert len(found.source) > 20
    assert templates_of(found.prompts)
    assert found.threshold is None or found.entropy is None
    plain = found.inference(squares(PLAN, PLAN))
    assert (plain.background, plain.words) == ("none", ())
    assert plain.threshold is None
    assert plain.entropy is None


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("patch", [14, 16, 32])
def test_sizes_become_whole_patches_of_any_model(name: str, patch: int) -> None:
    protocol = replace(preset(name), step=None)  # step=4 divides 16 and 32 alone
    sizes = sizes_of(protocol.inference(squares(PLAN, PLAN)), patch, 224)
    for width, height in ((500, 375), (64, 2048), (1, 1)):
        plan = _windows.plan(width, height, sizes)
        assert all(side % patch == 0 and side > 0 for side in (*plan.size, *plan.window))
        assert all(part <= side for part, side in zip(plan.window, plan.size, strict=True))
        covered = np.zeros(plan.grid, bool)
        for top, left in plan.corners:
            covered[top : top + plan.cells[0], left : left + plan.cells[1]] = True
        assert covered.all()


def test_figures_of_the_common_harness() -> None:
    """Typed off the released configurations a second time."""
    table = {
        "voc21": (336, 224, 112, 65, 0.1),
        "voc20": (336, 224, 112, 40, None),
        "context60": (336, 224, 112, 50, 0.1),
        "context59": (336, 224, 112, 40, None),
        "coco_object": (336, 224, 112, 50, 0.1),
        "coco_stuff": (448, 224, 112, 40, None),
        "cityscapes": (560, 224, 112, 40, None),
        "ade20k": (336, 224, 112, 40, None),
        "naclip_voc21": (336, 0, 112, 40, 0.1),
        "clearclip_voc21": (448, 448, 224, 50, 0.5),
        "clearclip_context60": (448, 448, 224, 50, 0.15),
        "clearclip_coco_object": (448, 448, 224, 50, 0.4),
    }
    for name, (short_side, window, stride, scale, threshold) in table.items():
        found = preset(name)
        assert (found.short_side, found.window, found.stride) == (short_side, window, stride)
        assert (found.scale, found.threshold, found.prompts) == (scale, threshold, "openai80")
    pacl = preset("pacl")
    assert (pacl.step, pacl.prompts, pacl.entropy) == (4, "pacl7", 1.5)
    assert len(templates_of("pacl7")) == 7
    assert len(templates_of("openai80")) == 80


def test_the_background_is_the_sets_names_and_the_presets_rule() -> None:
    benchmark = with_background("sky", "wall")
    voc = preset("voc21").inference(benchmark)
    assert (voc.words, voc.threshold, voc.scale) == (("sky", "wall"), 0.1, 65)
    other = preset("clearclip_voc21").inference(benchmark)
    assert (other.words, other.threshold) == (("background",), 0.5)
    pacl = preset("pacl").inference(benchmark)
    assert (pacl.words, pacl.threshold, pacl.entropy, pacl.step) == ((), None, 1.5, 4)


def test_without_a_preset_words_for_stuff_are_the_background() -> None:
    assert DEFAULT.inference(with_background("background")).words is None
    assert DEFAULT.inference(with_background("sky", "wall")).words == ("sky", "wall")
    plain = DEFAULT.inference(squares(PLAN, PLAN))
    assert (plain.short_side, plain.window, plain.background) == (None, None, "none")


def test_voc21_asks_for_the_background_by_26_words() -> None:
    classes = class_list("voc21")
    assert classes.background == 0
    assert len(classes.names[0]) == 26


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"protocol='voc22' is no preset; did you mean 'voc2"):
        preset("voc22")
    assert isinstance(PRESETS["default"], Protocol)
