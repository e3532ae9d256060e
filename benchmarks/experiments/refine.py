"""Does CLIP-Refine close the gap of a trained CLIP and keep its zero-shot accuracy, where plain fine-tuning
loses some? The base is fine-tuned for 40 steps of 64 pairs with CLIP-Refine (with); it is held against the
base as it was, in the last measure against the same steps of ClipLoss. The gap is measured on the sphere,
where CLIP compares, and of embeddings as the towers give them, which the loss makes shorter. Unlike in the
paper, these pairs are those that the base was trained on.
"""

from experiments._frame import Measure, Setting, step_cost
from experiments._tuned import figures, tuned

TITLE = "CLIP-Refine"
PAGE = "losses/refine.md"
MEASURES = {
    "gap": Measure("distance of the centroids on the sphere, from the base as it was", "lower"),
    "raw_gap": Measure("the same of embeddings as the towers give them", "lower", digits=2),
    "zero_shot": Measure("zero-shot top-1, from the base as it was"),
    "zero_shot_plain": Measure("the same, from plain fine-tuning"),
}
LOSS = ("loss.name=refine",)


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    base, plain, given = (
        figures(model, setting.quick) for model in (setting.base, tuned(setting), tuned(setting, LOSS))
    )
    found = {name: (base[name], given[name]) for name in ("gap", "raw_gap", "zero_shot")}
    return {**found, "zero_shot_plain": (plain["zero_shot"], given["zero_shot"])}


def cost(setting: Setting) -> tuple[float, float]:
    """A training step of 64 pairs; the frozen teacher's forward is in it."""
    return step_cost(setting, LOSS)
