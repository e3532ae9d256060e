"""Colours: VOC's by its published table, distinct ones for labels, even steps of heat."""

import numpy as np

from patchclip.dense.palette import REGIONS, heat_palette, region_colour, voc_palette


def test_the_palette_of_masks_is_vocs() -> None:
    """The colours that the Pascal VOC 2012 development kit lists for its classes."""
    expected = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        7: (128, 128, 128),
        8: (64, 0, 0),
        12: (64, 0, 128),
        15: (192, 128, 128),
        16: (0, 64, 0),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    palette = voc_palette()
    assert {label: tuple(palette[label].tolist()) for label in expected} == expected
    assert len(np.unique(palette, axis=0)) == 256


def test_labels_have_colours_of_their_own_that_never_change() -> None:
    colours = [region_colour(label) for label in range(1, 201)]
    assert tuple(colours[:24]) == REGIONS
    assert len(set(colours)) == 200
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)
    assert region_colour(1) == (225, 30, 30)


def test_colours_differ_in_lightness_or_blue_for_those_who_see_no_red_and_green() -> None:
    """Deuteranopia, Machado et al. 2009, on linear light: the first eight stay apart."""
    seen = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    )
    colours = (np.array(REGIONS[:8]) / 255) ** 2.2 @ seen.T
    colours = colours.clip(0, 1) ** (1 / 2.2)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=2) + np.eye(8)
    assert apart.min() > 0.14


def test_heat_grows_lighter() -> None:
    ramp = heat_palette()
    assert ramp.shape == (256, 3)
    lightness = ramp @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -0.6).all()
    assert lightness[0] < 2
    assert lightness[-1] > 240


def oklab(colours: list[tuple[int, int, int]]) -> np.ndarray:
    """Ottosson's OKLab (2020), by its published matrices."""
    values = np.array(colours) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    mixed = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    found: np.ndarray = np.cbrt(linear @ cones.T) @ mixed.T
    return found


def test_colours_of_further_labels_stay_apart() -> None:
    for count, least in ((48, 0.08), (64, 0.07), (128, 0.05), (256, 0.035)):
        seen = oklab([region_colour(label) for label in range(1, count + 1)])
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=2) + np.eye(count)
        assert apart.min() > least, (count, apart.min())
    assert [region_colour(label) for label in (257, 65_535)]
