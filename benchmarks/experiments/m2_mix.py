"""Does geodesic mixup bring better retrieval than ClipLoss alone, and does fine-tuning with it cost zero-shot
accuracy, as CLIP-Refine's authors report? The base is fine-tuned for 40 steps of 64 pairs with ClipLoss
(without) and with m2-mix at the largest released weight, 0.05 (with).
"""

from experiments._frame import Measure, Setting, step_cost
from experiments._tuned import figures, tuned

TITLE = "m2-mix (geodesic multi-modal mixup)"
PAGE = "losses/m2_mix.md"
MEASURES = {
    "recall": Measure("retrieval recall@5"),
    "zero_shot": Measure("zero-shot top-1"),
    "uniformity": Measure("uniformity, mean of images and texts", "lower"),
    "alignment": Measure("mean squared distance of pairs", "lower"),
}
LOSS = ("loss.name=m2_mix", "loss.weight=0.05")


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    plain, given = (figures(tuned(setting, *loss), setting.quick) for loss in ((), (LOSS,)))
    return {name: (plain[name], given[name]) for name in MEASURES}


def cost(setting: Setting) -> tuple[float, float]:
    """A training step of 64 pairs."""
    return step_cost(setting, LOSS)
