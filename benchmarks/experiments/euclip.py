"""Does the geometry of the embeddings matter? Two linear heads from random weights, on frozen raw embeddings
of 1,500 training pairs, learn for 600 steps with batches of 250 (AdamW, learnt scale, which starts where each
metric's does), once for each metric: cosine, -|x - y|^2 (EuCLIP), distance on the hyperboloid (MERU). Towers
are too slow to train for each metric here. Without: the cosine, scored by cosines. With: the metric, scored
by itself, as `patchclip eval` does. The last measure asks for a hierarchy: the share of held-out pairs whose
text is nearer to the origin than its image, both learnt by -|x - y|^2, without and with cones (weight 0.2).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments._frame import Measure, Setting, embedded, held_out, interleaved, training_pairs
from experiments._long_captions import recall

TITLE = "EuCLIP"
PAGE = "losses/euclip.md"
MEASURES = {
    "euclidean": Measure("recall@5 on held-out pairs, -\\|x - y\\|^2"),
    "hyperbolic": Measure("the same, hyperbolic distance"),
    "zero_shot": Measure("zero-shot accuracy on zs_clipart, -\\|x - y\\|^2"),
    "hierarchy": Measure("texts nearer to the origin than their images, with cones", better=""),
}
BATCH, STEPS = 250, 600
CONES = 0.2


class Heads(nn.Module):
    """Two linear maps and a scale, trained with a loss."""

    def __init__(self, loss: Any, width: int) -> None:
        super().__init__()
        scale = (getattr(loss, "initial_logits", None) or (1 / 0.07, None))[0]
        self.image, self.text = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.loss = loss

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Mapped rows, of unit length where the loss takes such."""
        rows = self.image(image), self.text(text)
        unit = getattr(self.loss, "unit_length", True)
        return (F.normalize(rows[0], dim=-1), F.normalize(rows[1], dim=-1)) if unit else rows

    @torch.no_grad()
    def lifted(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Rows whose inner products are, or rise with, the scores."""
        from patchclip.models.similarity import Cosine, Lifted

        settings = self.loss.similarity(image.shape[1])
        similarity = Lifted(**settings) if settings else Cosine()
        mapped = self(image, text)
        return similarity.image(mapped[0]), similarity.text(mapped[1])


def frozen(setting: Setting) -> tuple[Callable[[Any, Any], tuple[Tensor, Tensor]], Any]:
    """What embeds pictures and texts, divided by their usual length per number, and the encoder."""
    from patchclip.models.towers import load

    encoder = load(setting.base).raw()
    return lambda images, texts: embedded(encoder, images, texts), encoder


def learnt(metric: str, pairs: tuple[Tensor, Tensor], setting: Setting, weight: float = 0.0) -> Heads:
    """Heads, trained."""
    from patchclip.losses.euclip import EuCLIPLoss

    torch.manual_seed(setting.seed)
    heads = Heads(EuCLIPLoss(metric, weight), pairs[0].shape[1])
    optimizer = torch.optim.AdamW(heads.parameters(), lr=1e-3, weight_decay=0.01)
    drawn = setting.generator()
    for _ in range(setting.steps(STEPS)):
        batch = torch.randperm(len(pairs[0]), generator=drawn)[:BATCH]
        terms = heads.loss(*heads(pairs[0][batch], pairs[1][batch]), heads.logit_scale.exp())
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        with torch.no_grad():
            heads.logit_scale.clamp_(0, math.log(100))
    return heads


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """Measure -> (cosine, metric); of the hierarchy (no cones, cones)."""
    from patchclip.data.benchmarks import open_sets
    from patchclip.models.similarity import Lifted, origin_distance

    embed, _ = frozen(setting)
    count, held = (BATCH, 50) if setting.quick else (1500, 400)
    pairs = embed(*training_pairs(count, setting.seed))
    images, captions = held_out(held)
    clean = embed(images, [some[0] for some in captions])
    shapes: Any = open_sets("samples", ["zs_clipart"])[0]
    chosen = range(min(len(shapes), 20 if setting.quick else 400))
    named = [shapes.prompts(label)[0] for label in range(len(shapes.classnames))]
    drawn = embed([shapes.images[i] for i in chosen], named)
    labels = torch.as_tensor(shapes.labels)[list(chosen)]
    spread = [rows.square().mean().sqrt() for rows in pairs]
    pairs, clean, drawn = ((image / spread[0], text / spread[1]) for image, text in (pairs, clean, drawn))
    heads = {name: learnt(name, pairs, setting) for name in ("cosine", "euclidean_squared", "hyperbolic")}
    found = {name: recall(*each.lifted(*clean)) for name, each in heads.items()}

    def accuracy(name: str) -> float:
        image, text = heads[name].lifted(*drawn)
        return float(((image @ text.T).argmax(1) == labels).float().mean())

    def ordered(each: Heads) -> float:
        similarity = Lifted(**each.loss.similarity(clean[0].shape[1]))
        with torch.no_grad():
            image, text = each(*clean)
        depth = origin_distance(image, similarity, "image"), origin_distance(text, similarity, "text")
        return float((depth[1] < depth[0]).float().mean())

    coned = learnt("euclidean_squared", pairs, setting, CONES)
    return {
        "euclidean": (found["cosine"], found["euclidean_squared"]),
        "hyperbolic": (found["cosine"], found["hyperbolic"]),
        "zero_shot": (accuracy("cosine"), accuracy("euclidean_squared")),
        "hierarchy": (ordered(heads["euclidean_squared"]), ordered(coned)),
    }


def cost(setting: Setting) -> tuple[float, float]:
    """Seconds of value and gradients of the loss at 512 pairs of width 256: ClipLoss, EuCLIP with cones."""
    from patchclip.losses.clip import ClipLoss
    from patchclip.losses.euclip import EuCLIPLoss

    rows = [torch.randn(512, 256, generator=setting.generator()).requires_grad_() for _ in range(2)]
    scale = torch.tensor(1.0)

    def work(loss: Any) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(sum(loss(*rows, scale).values()), rows)

    return interleaved(
        work(ClipLoss()), work(EuCLIPLoss(entailment_weight=CONES)), 3 if setting.quick else 15
    )
