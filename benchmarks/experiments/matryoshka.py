"""How much of retrieval is left when embeddings are cut? The base is fine-tuned for 40 steps of 64 pairs
with ClipLoss (without) and with Matryoshka over the whole width and its half, quarter and eighth (with); then
both are cut to these lengths, and 400 held-out pairs look for each other.
"""

from experiments._frame import Measure, Setting, step_cost
from experiments._tuned import PAIRS, recall, tuned

TITLE = "Matryoshka"
PAGE = "losses/matryoshka.md"
SHARES = {"whole": 1, "half": 2, "quarter": 4, "eighth": 8}
MEASURES = {name: Measure(f"recall@5 of the {name} embedding") for name in SHARES}


def loss(setting: Setting) -> tuple[str, ...]:
    """Settings of the loss."""
    return "loss.name=matryoshka", f"loss.dims={[width(setting) // share for share in SHARES.values()]}"


def width(setting: Setting) -> int:
    """Numbers of an embedding of the base."""
    from patchclip.models.towers import load

    base = load(setting.base)
    return base.encode_text(base.tokenizer(["a"])).shape[1]


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    plain, given = tuned(setting), tuned(setting, loss(setting))
    pairs, whole = 24 if setting.quick else PAIRS, width(setting)
    return {
        name: (recall(plain, pairs, whole // share), recall(given, pairs, whole // share))
        for name, share in SHARES.items()
    }


def cost(setting: Setting) -> tuple[float, float]:
    """A training step of 64 pairs."""
    return step_cost(setting, loss(setting))
