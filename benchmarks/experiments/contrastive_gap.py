"""Do alignment and uniformity terms close the gap between images and texts, and what do retrieval and
zero-shot accuracy pay for it? The base is fine-tuned for 40 steps of 64 pairs with ClipLoss (without) and
with the contrastive-gap loss at its released weights (with); figures are of held-out pairs and shipped sets.
"""

from experiments._frame import Measure, Setting, step_cost
from experiments._tuned import figures, tuned

TITLE = "Contrastive gap (uniformity, alignment)"
PAGE = "losses/contrastive_gap.md"
MEASURES = {
    "gap": Measure("distance of the centroids of images and texts", "lower"),
    "uniformity": Measure("uniformity, mean of images and texts", "lower"),
    "recall": Measure("retrieval recall@5"),
    "zero_shot": Measure("zero-shot top-1"),
}
LOSS = ("loss.name=contrastive_gap",)


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    plain, given = (figures(tuned(setting, *loss), setting.quick) for loss in ((), (LOSS,)))
    return {name: (plain[name], given[name]) for name in MEASURES}


def cost(setting: Setting) -> tuple[float, float]:
    """A training step of 64 pairs."""
    return step_cost(setting, LOSS)
