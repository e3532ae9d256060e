"""Segmentation in one call: a model's name, pictures of any kind, labels."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from patchclip import registry
from patchclip.data.pictures import as_picture
from patchclip.dense.inference import Inference
from patchclip.dense.labels import Labels
from patchclip.dense.segmentation import Segmentation
from patchclip.dense.segmenter import Segmenter
from patchclip.errors import ConfigError
from patchclip.models.towers import ClipEncoder, load

MODEL = "ViT-B-16:openai"

Picture = str | Path | Image.Image | np.ndarray


@overload
def segment(
    image: Picture, labels: Labels, model: Any = MODEL, *, longest: int | None = None, **options: Any
) -> Segmentation: ...


@overload
def segment(
    image: Sequence[Picture],
    labels: Labels,
    model: Any = MODEL,
    *,
    longest: int | None = None,
    **options: Any,
) -> list[Segmentation]: ...


def segment(
    image: Picture | Sequence[Picture],
    labels: Labels,
    model: str | Path | ClipEncoder = MODEL,
    *,
    longest: int | None = None,
    **options: Any,
) -> Segmentation | list[Segmentation]:
    """Finds which of the labels every pixel of a picture shows.

    For many calls load the model once (`patchclip.load`) and pass it, or use `patchclip.Segmenter`, which
    encodes the labels once too.

    Args:
        image: path, Pillow image, or numpy array [h, w, 3] of uint8; or a list of them. Turned as its EXIF
            orientation says, transparency on white.
        labels: names, or tuples of names that mean the same.
        model: what `patchclip.load` takes, or what it gives.
        longest: pixels of the longer side at most; larger pictures are made smaller. None: as they are.
        **options: `device` and `precision` as `patchclip.load` takes them, and the settings of
            `patchclip.dense.inference.Inference`, as background="none".

    Returns:
        A `Segmentation`, or a list of them for a list of pictures.

    Raises:
        ConfigError: bad labels, unknown options or values.
        DataError: a picture that cannot be read.
        TowerError: a model whose image tower is no plain ViT.
    """
    if isinstance(labels, np.ndarray):
        raise ConfigError(f"labels: an array of {labels.dtype} must be a list of names: pass labels.tolist()")
    given: Sequence[Any] = image if isinstance(image, list | tuple) else [image]
    pictures = [as_picture(each, longest) for each in given]
    encoder, inference = prepared(model, options)
    found = Segmenter(encoder, labels, inference)(pictures)
    return found if given is image else found[0]


def prepared(model: Any, options: dict[str, Any]) -> tuple[ClipEncoder, Inference]:
    """The loaded model and the settings of a call.

    Args:
        model: what `patchclip.load` takes or gives.
        options: `device`, `precision` and the fields of `Inference`.

    Raises:
        ConfigError: an unknown option, what is no model, or `device` or `precision` for a model that is
            loaded already.
    """
    known = {each.name for each in fields(Inference)}
    loading = {name: value for name, value in options.items() if name in ("device", "precision")}
    for name in options:
        if name not in known and name not in loading:
            raise ConfigError(
                f"there is no option {name!r}; {registry.closest(name, [*known, 'device', 'precision'])}"
            )
    inference = Inference(**{name: value for name, value in options.items() if name in known})
    if isinstance(model, str | Path):
        return load(model, **loading), inference
    if not isinstance(model, ClipEncoder):
        raise ConfigError(
            f"model={type(model).__name__} must be a name, a path or what patchclip.load gives: a ClipEncoder"
        )
    if loading:
        raise ConfigError(
            f"{', '.join(loading)} belongs to loading: pass it to patchclip.load, or a model's name"
        )
    return model, inference
