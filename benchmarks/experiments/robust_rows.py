"""Do bounded logits and truncated error norms help where 40 % of the captions belong to other images? Two
linear heads on frozen embeddings of 1,500 training pairs learn with wrong captions for 40 % of the images
(batches of 250, 40 epochs, AdamW); recall is that of clean held-out pairs. Without: ClipLoss. With:
`logit_clip` at half the median row norm of the first table, or `truncate=0.4`. The last measure asks which
pairs are wrong, of batches of the untrained embeddings: area under the curve of the cross-entropy
(without) and of the error norm (with).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments._frame import Measure, Setting, embedded, held_out, interleaved, training_pairs

TITLE = "LogitClip, error norm truncation"
PAGE = "losses/clip.md"
MEASURES = {
    "logit_clip": Measure("recall@5 after training on wrong captions, logit_clip"),
    "truncate": Measure("the same, truncate=0.4"),
    "found": Measure("AUC of finding wrong pairs"),
}
WRONG, BATCH, EPOCHS = 0.4, 250, 40


def rows(setting: Setting) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], float]:
    """Embeddings of training and of held-out pairs, and the scale of the base."""
    from patchclip.models.towers import load

    encoder = load(setting.base)
    size = BATCH if setting.quick else 1500
    images, captions = held_out(50 if setting.quick else 400)
    clean = embedded(encoder, images, [some[0] for some in captions])
    return embedded(encoder, *training_pairs(size, setting.seed)), clean, encoder.scale


def shuffled(text: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The texts with a share of wrong ones, and which are wrong."""
    chosen = torch.randperm(len(text), generator=generator)[: int(WRONG * len(text))]
    wrong = torch.zeros(len(text), dtype=torch.bool)
    wrong[chosen] = True
    moved = text.clone()
    moved[chosen] = text[chosen.roll(1)]
    return moved, wrong


def recall(image: Tensor, text: Tensor) -> float:
    """Share of images with their text, and of texts with their image, among the best five; the mean."""
    table = image @ text.T
    own = table.diagonal()
    ranks = [(each > own[:, None]).sum(1) for each in (table, table.T)]
    return float(torch.cat(ranks).lt(5).float().mean())


def learnt(loss: Any, pairs: tuple[Tensor, Tensor], setting: Setting, scale: float) -> list[nn.Linear]:
    """Two linear heads, trained."""
    torch.manual_seed(setting.seed)
    width = pairs[0].shape[1]
    heads = [nn.Linear(width, width, bias=False) for _ in range(2)]
    for head in heads:
        nn.init.eye_(head.weight)
    optimizer = torch.optim.AdamW([head.weight for head in heads], lr=1e-3)
    for _ in range(1 if setting.quick else EPOCHS):
        for batch in torch.randperm(len(pairs[0]), generator=setting.generator()).split(BATCH):
            mapped = [F.normalize(h(rows[batch]), dim=-1) for h, rows in zip(heads, pairs, strict=True)]
            optimizer.zero_grad()
            sum(loss(*mapped, torch.tensor(scale)).values()).backward()
            optimizer.step()
    return heads


def area(scores: Tensor, wrong: Tensor) -> float:
    """Chance that a wrong pair scores above a right one."""
    ranks = scores.argsort().argsort().double() + 1
    count = int(wrong.sum())
    return float((ranks[wrong].sum() - count * (count + 1) / 2) / (count * (len(wrong) - count)))


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    from patchclip.losses._robust import error_norms
    from patchclip.losses.clip import ClipLoss

    (image, text), clean, scale = rows(setting)
    moved, wrong = shuffled(text, setting.generator())
    first = scale * image[:BATCH] @ moved[:BATCH].T
    bound = float(first.norm(dim=1).median()) / 2
    losses = [ClipLoss(), ClipLoss(logit_clip=bound), ClipLoss(truncate=WRONG)]
    found = []
    with torch.enable_grad():
        models = [learnt(loss, (image, moved), setting, scale) for loss in losses]
    for heads in models:
        with torch.no_grad():
            found.append(recall(*(F.normalize(h(x), dim=-1) for h, x in zip(heads, clean, strict=True))))
    targets = torch.arange(len(first))
    plain = F.cross_entropy(first, targets, reduction="none")
    areas = area(plain, wrong[:BATCH]), area(error_norms(first), wrong[:BATCH])
    return {"logit_clip": (found[0], found[1]), "truncate": (found[0], found[2]), "found": areas}


def cost(setting: Setting) -> tuple[float, float]:
    """Forward and backward of the loss at 1,024 pairs, without and with both options."""
    from patchclip.losses.clip import ClipLoss

    rows = F.normalize(torch.randn(2, 1024, 192, generator=setting.generator()), dim=-1).requires_grad_()
    losses = ClipLoss(), ClipLoss(logit_clip=100.0, truncate=WRONG)

    def work(loss: Any) -> None:
        loss(rows[0], rows[1], torch.tensor(30.0))["contrastive"].backward()

    return interleaved(lambda: work(losses[0]), lambda: work(losses[1]), 1 if setting.quick else 9)
