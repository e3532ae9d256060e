"""What holds for every adapter of towers, ours and those to come: a failure leaves the model as it was."""

import inspect
import math
from typing import Any

import pytest
from torch import Tensor

from patchclip import registry
from patchclip.errors import TrainingError
from tests.adapt._labelled import Pictures, as_it_was, changed, generator, model_of, prompts, shots_of, state

NAMES = [
    name
    for name in registry.names("adapt")
    if "shots" in inspect.signature(registry.load("adapt", name).fit).parameters  # type: ignore[attr-defined]
]


class Failing(Pictures):
    """Interrupted where image 3 is read."""

    def pixels(self, rows: Any) -> Tensor:
        if 3 in rows:
            raise KeyboardInterrupt
        return super().pixels(rows)


def small(name: str) -> Any:
    return registry.build("adapt", name, steps=4, lr=1e-3, batch_size=5)


def test_the_family_is_there() -> None:
    assert {"clip_svd", "clipood"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_model_is_as_it_was(name: str) -> None:
    model = model_of("native").train()
    shots, before = shots_of(model), state(model)
    with as_it_was(model), pytest.raises(KeyboardInterrupt):
        small(name).fit(model, Failing(shots.images, shots.labels), prompts(), generator())
    assert changed(model, before) == set()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_images_that_are_not_finite_are_told_and_change_nothing(name: str, value: float) -> None:
    model = model_of("native")
    shots, before = shots_of(model), state(model)
    shots.images[2, 0, 0, 0] = value
    with as_it_was(model), pytest.raises(TrainingError, match="is nan at step"):
        small(name).fit(model, shots, prompts(), generator())
    assert changed(model, before) == set()
