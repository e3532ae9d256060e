"""Half of the 26 classes of zs_clipart, drawn by the seed, are learnt from 16 shots each (fewer where the
training split has fewer); the test images of these classes, and those of the other half among their own
names, are asked before and after. 40 updates of 16 images, at a learning rate of 1e-4, that of all
experiments that fine-tune this base (5e-4 leaves less than zero-shot). Without, for the last two measures:
the same training, its last weights instead of the Beta moving average.
"""

import copy
from typing import Any

import torch

from experiments._few_shot import Task, batch, task
from experiments._frame import Measure, Setting, interleaved

TITLE = "CLIPood"
PAGE = "adapt/clipood.md"
MEASURES = {
    "learnt": Measure("accuracy on the classes with shots, before and after"),
    "other": Measure("accuracy on the classes without, before and after"),
    "learnt_average": Measure("classes with shots, without and with the average"),
    "other_average": Measure("classes without shots, without and with the average"),
}


def halves(setting: Setting, encoder: Any) -> tuple[Task, Task]:
    """The classes with shots and those without."""
    order = torch.randperm(26, generator=setting.generator()).tolist()
    return task(setting, encoder, "zs_clipart", order[:13]), task(setting, encoder, "zs_clipart", order[13:])


def adapted(setting: Setting, model: Any, learnt: Task, beta: float | None) -> Any:
    """A copy of the model after training."""
    from patchclip.adapt.methods.clipood import CLIPood

    found = copy.deepcopy(model)
    method = CLIPood(beta=beta, steps=setting.steps(40), lr=1e-4, batch_size=batch(setting))
    return method.fit(found, learnt.shots, learnt.tokens, setting.generator()) and found


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    from patchclip.models.towers import load

    encoder = load(setting.base)
    learnt, other = halves(setting, encoder)
    mean, last = (adapted(setting, encoder.model, learnt, beta) for beta in (0.5, None))
    return {
        "learnt": (learnt.accuracy(encoder.model), learnt.accuracy(mean)),
        "other": (other.accuracy(encoder.model), other.accuracy(mean)),
        "learnt_average": (learnt.accuracy(last), learnt.accuracy(mean)),
        "other_average": (other.accuracy(last), other.accuracy(mean)),
    }


def cost(setting: Setting) -> tuple[float, float]:
    """Four updates of 16 images: plain fine-tuning of the image tower, and with margin and average."""
    from patchclip.adapt.methods.clipood import CLIPood
    from patchclip.models.towers import load

    encoder = load(setting.base)
    learnt = task(setting, encoder, "zs_clipart", range(13), most=2)
    steps = setting.steps(4)

    def work(margin: float, beta: float | None) -> None:
        method = CLIPood(margin, beta, steps=steps, batch_size=batch(setting))
        method.fit(encoder.model, learnt.shots, learnt.tokens, setting.generator())

    return interleaved(lambda: work(0.0, None), lambda: work(0.3, 0.5), 1 if setting.quick else 3)
