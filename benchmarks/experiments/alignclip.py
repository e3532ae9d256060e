"""Does separating images by how much their captions differ bring pairs nearer? The base is fine-tuned for 40
steps of 64 pairs with ClipLoss (without) and with AlignCLIP's loss at its released weights, captions compared
by the base's own frozen text tower (with). The paper trains from scratch, and shares the towers, too.
"""

from experiments._frame import Measure, Setting, step_cost
from experiments._tuned import figures, tuned

TITLE = "AlignCLIP (separation within a modality)"
PAGE = "losses/alignclip.md"
MEASURES = {
    "gap": Measure("distance of the centroids of images and texts", "lower"),
    "angle": Measure("mean angle of pairs, degrees", "lower", digits=1),
    "recall": Measure("retrieval recall@5"),
    "zero_shot": Measure("zero-shot top-1"),
}


def loss(setting: Setting) -> tuple[str, ...]:
    """Settings of the loss."""
    return "loss.name=alignclip", f"loss.reference={setting.base}"


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    plain, given = (figures(tuned(setting, *part), setting.quick) for part in ((), (loss(setting),)))
    return {name: (plain[name], given[name]) for name in MEASURES}


def cost(setting: Setting) -> tuple[float, float]:
    """A training step of 64 pairs."""
    return step_cost(setting, loss(setting))
