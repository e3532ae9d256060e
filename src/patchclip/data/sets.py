"""Evaluation data as every suite sees it: images read when asked for, beside labels, captions or choices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from patchclip.errors import DataError


class Images(Protocol):
    """The images of one split, decoded when they are asked for.

    Attributes:
        fingerprint: changes when the files behind the images change; equal for sets that share their images.
    """

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image:
        """The RGB image. Raises DataError, naming file and cause, where it cannot be read."""
        ...


def no_split(name: str) -> None:
    """A set that has no other split."""
    return


@dataclass(frozen=True)
class Classification:
    """Images of one class each.

    Attributes:
        name: of the set.
        images: n images.
        labels: class of every image, in [0, c).
        classnames: c names, in the order of the labels.
        templates: prompts with "{c}" for the class name, for all classes; or the prompts of every class.
        shift_of: name of the set that asks the same classes of ordinary images; "" where it shifts none.
        opener: opens another split of the set by its name ("train", "val"); None where there is none.
    """

    name: str
    images: Images
    labels: Int64[np.ndarray, "n"]
    classnames: tuple[str, ...]
    templates: tuple[str, ...] | Mapping[str, tuple[str, ...]]
    shift_of: str = ""
    opener: Callable[[str], "Classification | None"] = field(default=no_split, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.images[index], int(self.labels[index])

    def split(self, name: str) -> "Classification | None":
        """Another split of the same classes, None where the set has none of that name."""
        return self.opener(name)

    def prompts(self, label: int) -> tuple[str, ...]:
        """The prompts of a class."""
        return prompts(self.classnames[label], self.templates)


@dataclass(frozen=True)
class Multilabel:
    """Images of any number of classes: `labels[i, c]` is 1 where image i shows class c."""

    name: str
    images: Images
    labels: UInt8[np.ndarray, "n c"]
    classnames: tuple[str, ...]
    templates: tuple[str, ...] | Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        return self.images[index], self.labels[index]

    def prompts(self, label: int) -> tuple[str, ...]:
        """The prompts of a class."""
        return prompts(self.classnames[label], self.templates)


@dataclass(frozen=True)
class Retrieval:
    """Images with any number of captions each."""

    name: str
    images: Images
    captions: Sequence[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, tuple[str, ...]]:
        return self.images[index], self.captions[index]


@dataclass(frozen=True)
class Choice:
    """Images and captions of which the i-th caption belongs to the i-th image; further ones are wrong.

    One image with (true, false) captions is a SugarCrepe question; two images with two captions are one of
    Winoground.

    Attributes:
        images: indices into the set's images.
        captions: at least as many as images, or the other way round.
        group: of questions whose mean counts as one in a macro mean; "" where it counts in none.
    """

    images: tuple[int, ...]
    captions: tuple[str, ...]
    group: str = ""


@dataclass(frozen=True)
class Selection:
    """Choices of one kind ("swap_obj") over the images of a set.

    Attributes:
        name: of the set and the kind: "sugar_crepe/swap_obj".
        images: shared by all kinds of the set.
        choices: all of the same numbers of images and captions.
        kind: what is wrong in the wrong captions, "" where it is not known.
    """

    name: str
    images: Images
    choices: tuple[Choice, ...]
    kind: str = ""

    def __len__(self) -> int:
        return len(self.choices)


class Masks(Protocol):
    """The masks of one split, decoded when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Int64[np.ndarray, "h w"]:
        """Class of every pixel in [0, c), or -1 where it is not scored.

        Raises:
            DataError: naming file and cause, where it cannot be read or holds another value.
        """
        ...


@dataclass(frozen=True)
class Segmented:
    """Images with a class for every pixel.

    Attributes:
        name: of the set.
        images: n images.
        masks: n masks, each of its image's size.
        classnames: c names, in the order of the labels: the first synonym of each.
        synonyms: of each class, all names that are asked for; the class's score is the best of them.
        background: index of the class "background" in [0, c), or None where every pixel has a class.
        protocol: name of the preset of sizes, windows and thresholds in `evaluation`, "" for the default.
    """

    name: str
    images: Images
    masks: Masks
    classnames: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    background: int | None = None
    protocol: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, Int64[np.ndarray, "h w"]]:
        return self.images[index], self.masks[index]


Benchmark = Classification | Multilabel | Retrieval | Selection | Segmented


def prompts(classname: str, templates: tuple[str, ...] | Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The prompts of a class: the templates with its name in place of "{c}" or "{}", or its own prompts.

    Raises:
        DataError: a template without a place for the name, or a class without prompts of its own.
    """
    if isinstance(templates, Mapping):
        if classname not in templates:
            raise DataError(f"class {classname!r} has no prompts: add it to the file of prompts")
        return tuple(templates[classname])
    for template in templates:
        if "{c}" not in template and "{}" not in template:
            raise DataError(f"template {template!r} has no place for the class name: write {{c}} there")
    return tuple(template.replace("{c}", classname).replace("{}", classname) for template in templates)
