"""What a linear probe learns from: labelled embeddings, what must hold for them, and draws of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import DataError

HELD_OUT = 10
FURTHER = 4


@dataclass(frozen=True)
class Examples:
    """Embeddings with their classes; `name` is for messages."""

    name: str
    features: Float[Tensor, "n e"]
    labels: Int64[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, places: Int64[Tensor, "m"]) -> "Examples":
        """Some of them."""
        places = places.to(self.labels.device)
        return Examples(self.name, self.features[places], self.labels[places])

    def and_also(self, other: "Examples") -> "Examples":
        """These, then the others."""
        name = f"{self.name} and {other.name}"
        return Examples(
            name, torch.cat([self.features, other.features]), torch.cat([self.labels, other.labels])
        )


def check_labels(examples: Examples, classes: int) -> None:
    """Raises DataError without examples, or where a label is outside [0, c)."""
    if not len(examples):
        raise DataError(f"{examples.name}: 0 images: a linear probe needs some; check the split")
    low, high = int(examples.labels.min()), int(examples.labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{examples.name}: label {low if low < 0 else high} must be in [0, {classes - 1}]: "
            f"there are {classes} class names"
        )


def check_training(examples: Examples, classes: int) -> None:
    """Raises DataError where nothing can be learned: one class, or features that are not finite."""
    check_labels(examples, classes)
    first = int(examples.labels[0])
    if bool((examples.labels == first).all()):
        raise DataError(
            f"{examples.name}: all {len(examples)} training images are of class {first}; "
            "a linear probe needs images of two classes at least"
        )
    broken = int((~examples.features.isfinite().all(1)).sum())
    if broken:
        raise DataError(
            f"{examples.name}: the embeddings of {broken} of {len(examples)} training images are not finite; "
            "the model is broken, or was encoded in a precision too low for it"
        )


def hold_out(train: Examples, generator: torch.Generator) -> tuple[Examples, Examples] | None:
    """A tenth of every class for validation: the rest, and the tenth; None where no class has two images.

    Of n images of a class n / 10 are held out, rounded to the nearest number (a half to the even one), and at
    least one where there are two.
    """
    rows, place, count = _drawn(train.labels, generator)
    held = place < (count / HELD_OUT).round().clamp(min=1) * (count > 1)
    if not held.any():
        return None
    return train.rows(rows[~held].sort().values), train.rows(rows[held].sort().values)


def draw_shots(train: Examples, k: int, generator: torch.Generator) -> tuple[Examples, Examples]:
    """k images of every class that has images, and up to min(k, 4) others of each to choose settings on."""
    rows, place, _ = _drawn(train.labels, generator)
    others = (place >= k) & (place < k + min(k, FURTHER))
    return train.rows(rows[place < k].sort().values), train.rows(rows[others].sort().values)


def scarcest(labels: Int64[Tensor, "n"]) -> tuple[int, int]:
    """The class with the fewest images among those that have any, and how many it has."""
    present, count = labels.unique(return_counts=True)
    least = int(count.argmin())
    return int(present[least]), int(count[least])


def _drawn(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """All rows by class, shuffled within each; the place of each within its class; its class's images."""
    order = torch.randperm(len(labels), generator=generator)
    found, by_class = labels.cpu()[order].sort(stable=True)
    _, count = found.unique_consecutive(return_counts=True)
    first = (count.cumsum(0) - count).repeat_interleave(count)
    return order[by_class], torch.arange(len(labels)) - first, count.repeat_interleave(count)
