"""Floating-point operations, memory and hours of a training step: arithmetic on numbers, no tensors."""

import math
from dataclasses import dataclass, replace

from patchclip.models.cost import Outline, Tower

GIB = 2**30


@dataclass(frozen=True)
class Inputs:
    """What one pair feeds the towers.

    Args:
        patches: of the image; each is embedded.
        kept: of them reach the blocks.
        words: text tokens.
        views: crops of the image that pass the tower.
        guide: patches that the masker's teacher sees, 0 without one.
        texts: of the pair: the caption and its companions.
        teacher: patches that the loss's teacher sees, 0 without one; it reads the caption, too.
    """

    patches: float
    kept: float
    words: float
    views: int = 1
    guide: float = 0
    texts: int = 1
    teacher: float = 0


@dataclass(frozen=True)
class HeadCost:
    """A head that is trained on frozen towers.

    Args:
        parameters: of the head; each meets every patch.
        forwards: of the image tower for every pair seen: 1, or pairs / samples where patches are kept.
    """

    parameters: int
    forwards: float = 1.0


@dataclass(frozen=True)
class Step:
    """How a step is computed: pairs over all ranks, ranks, micro-batch, checkpointing, bytes a number.

    `sharded` says that weights and moments lie in parts on the ranks; `exchange` and `tile` are those of the
    loss, see `engine/ranks/exchange.py`.
    """

    batch: int
    ranks: int = 1
    micro_batch: int | None = None
    recompute: bool = False
    bytes: int = 2
    averaged: bool = False
    head: HeadCost | None = None
    sharded: bool = False
    exchange: str = "gather"
    tile: int | None = None

    @property
    def by_rows(self) -> bool:
        """Whether a rank computes the logits of its own images only."""
        return self.exchange != "gather" and self.ranks > 1

    @property
    def plain(self) -> bool:
        """Whether a rank holds the whole table of logits."""
        return not self.by_rows and self.tile is None

    @property
    def products(self) -> int:
        """Products of own images with all texts, 3, or 4 over tiles; times ranks where each does all."""
        return (3 if self.plain else 4) * (1 if self.by_rows else self.ranks)

    @property
    def table(self) -> float:
        """Bytes of the logits that exist at a time, and of what is made of them: five matrices, or four."""
        own = self.batch / self.ranks
        rows, columns = own if self.by_rows else self.batch, self.batch
        if self.by_rows and self.exchange == "ring":
            columns = math.ceil(own)
        if self.tile is not None:
            rows, columns = min(rows, self.tile), min(columns, self.tile)
        return (5 if self.plain else 4) * 4 * rows * columns

    @property
    def per_rank(self) -> float:
        """Pairs that one rank holds with their graph."""
        whole = self.batch / self.ranks
        return whole if self.micro_batch is None else min(whole, max(1, self.micro_batch // self.ranks))

    @property
    def in_two_passes(self) -> bool:
        """Whether embeddings are first computed without a graph (GradCache)."""
        return self.per_rank < self.batch / self.ranks


def pair_flops(model: Outline, inputs: Inputs, step: Step) -> float:
    """Floating-point operations that one pair costs a step, two a multiply-add.

    2 * (2 stem + 3 blocks + 3 heads + logits), and with checkpointing most of a forward of the blocks, with
    micro-batches one forward of everything, with a teacher one of its tower. A backward is two forwards; the
    patch embedding's is one, as pixels need no gradient. Element-wise work, and what attention kernels
    recompute of their own accord, is not counted.

    Args:
        model: both towers.
        inputs: of one pair.
        step: how it is computed.
    """
    if step.head is not None:
        return head_flops(model, inputs, step.batch, step.head)
    image, text = model.image, model.text
    tokens, words = inputs.kept + image.prefix, inputs.words + text.prefix
    stem = inputs.views * image.stem * inputs.patches
    blocks = inputs.views * image.blocks_macs(tokens) + inputs.texts * text.blocks_macs(words)
    heads = inputs.views * image.head_macs(tokens) + inputs.texts * text.head_macs(words)
    macs = 2 * stem + 3 * blocks + 3 * heads
    if step.recompute:
        macs += inputs.views * image.again_macs(tokens) + inputs.texts * text.again_macs(words)
    if step.in_two_passes:
        macs += stem + blocks + heads
    if inputs.guide:
        seen = inputs.guide + image.prefix
        macs += image.stem * inputs.guide + image.blocks_macs(seen)
    if inputs.teacher:
        seen = inputs.teacher + image.prefix
        macs += image.stem * inputs.teacher + image.blocks_macs(seen) + text.blocks_macs(words)
    logits = inputs.views * step.products * step.batch * model.width
    return 2 * (macs + logits)


def head_flops(model: Outline, inputs: Inputs, batch: int, head: HeadCost) -> float:
    """Floating-point operations of one pair where only a head is trained, two a multiply-add.

    One forward of both towers, three of the head, and the scores (`score_flops`).
    """
    image, text, patches = model.image, model.text, inputs.kept
    seen = image.stem * inputs.patches + image.blocks_macs(patches + image.prefix)
    words = inputs.words + text.prefix
    frozen = head.forwards * seen + text.blocks_macs(words) + text.head_macs(words)
    return 2 * (frozen + 3 * patches * head.parameters) + score_flops(model, patches, batch)


def score_flops(model: Outline, patches: float, batch: int) -> float:
    """Operations of the scores of one image with the texts of a batch; they are computed in float32.

    Four times (they are computed again in the backward) l patches against each text, and the length of what
    it pools, by the Gram matrix or by pooling, whichever is shorter.
    """
    return 2 * 4 * batch * patches * (model.width + min(patches, model.width))


def step_memory(model: Outline, inputs: Inputs, step: Step, guided: bool = False) -> dict[str, float]:
    """GiB that a step takes on each GPU at its peak, by what they hold.

    Weights, gradients and both moments of AdamW are float32. `copies` are autocast's half-precision weights,
    the buckets of DistributedDataParallel, averaged weights and teachers. FSDP2 holds 1 / ranks of weights,
    gradients, moments and averages; blocks that are gathered for a moment are not counted. Activations are
    what the blocks keep (`Tower.saved`), with checkpointing their inputs and one block's. `logits` are five
    matrices of those a rank has: logits, two log-softmaxes and two gradients; four in tiles. The allocator's
    slack and CUDA's own memory, about 1 GiB, come on top.

    Args:
        model: both towers.
        inputs: of one pair, at the stretch of training that takes most.
        step: how it is computed.
        guided: an averaged image tower beside the trained one.
    """
    if step.head is not None:
        return _gib(head_memory(model, inputs, step, step.head))
    parameters = model.parameters
    half = parameters * 2 if step.bytes == 2 else 0
    part = 1 / step.ranks if step.sharded else 1.0
    buckets = step.ranks > 1 and not step.sharded
    copies = half + 4 * parameters * (buckets + part * step.averaged) + 4 * model.image.parameters * guided
    copies += (4 * parameters + half) * bool(inputs.teacher)
    side = model.image.patch**2 * inputs.patches
    pixels = (
        inputs.views * side * 3 * (4 + step.bytes) + inputs.views * inputs.patches * model.image.width * 4
    )
    images = inputs.views * activations(model.image, inputs.kept, step)
    kept = images + inputs.texts * activations(model.text, inputs.words, step)
    found = {
        "weights": part * 4 * parameters,
        "gradients": part * 4 * parameters,
        "optimizer": part * 8 * parameters,
        "copies": copies,
        "activations": step.per_rank * (kept + pixels),
        "logits": step.table,
    }
    return _gib(found)


def head_memory(model: Outline, inputs: Inputs, step: Step, head: HeadCost) -> dict[str, float]:
    """Bytes of a step that trains a head: both frozen towers, the work of one block, patches and scores."""
    rank = step.batch / step.ranks
    tokens = rank * inputs.kept
    working = step.per_rank * activations(model.image, inputs.kept, replace(step, recompute=True))
    embedded = (tokens if not step.in_two_passes else step.per_rank * inputs.kept) * model.width * 4
    return {
        "weights": 4 * (model.parameters + head.parameters),
        "gradients": 4 * head.parameters,
        "optimizer": 8 * head.parameters,
        "copies": (model.parameters * 2 if step.bytes == 2 else 0) + 4 * head.parameters * step.averaged,
        "activations": tokens * model.image.width * step.bytes + 4 * embedded + working,
        "logits": 5 * 4 * step.batch**2,
    }


def _gib(found: dict[str, float]) -> dict[str, float]:
    """Bytes as GiB, with their sum as `total`."""
    return {name: value / GIB for name, value in {**found, "total": sum(found.values())}.items()}


def activations(tower: Tower, tokens: float, step: Step) -> float:
    """Bytes that one image or text keeps in the blocks of a tower, and what one block's backward adds."""
    each = (tokens + tower.prefix) * step.bytes
    if step.recompute:
        return each * (tower.blocks * tower.width + 2 * tower.saved)
    return each * (tower.blocks + 1) * tower.saved


@dataclass(frozen=True)
class Gpu:
    """A GPU's peak in TFLOP/s (half-precision matrix units, float32) and the share that training reaches.

    Args:
        name: as people say it.
        half: peak of fp16 or bf16.
        single: peak of float32 without reduced precision.
        low: share of the half peak at the slow end.
        high: share at the fast end.
        bf16: whether it computes in bf16.
    """

    name: str
    half: float
    single: float
    low: float
    high: float
    bf16: bool = True


GPUS = (
    Gpu("V100", 125, 15.7, 0.18, 0.36, bf16=False),
    Gpu("A100", 312, 19.5, 0.12, 0.32),
    Gpu("H100", 989, 67, 0.09, 0.28),
)
"""Dense peaks of the SXM models by their vendor. The shares are for ViT-B/16 CLIP at 224 px. Published are
223 to 231 pairs/s on each of 8 V100 and about 332 on an A100 (open_clip on LAION-400M, the whole run): 22 %
and 13 % of the peak, or 30 % and 17 % if the blocks were recomputed. For the H100 nothing is published."""

SINGLE = (0.4, 0.8)
"""Share of the float32 peak: a guess."""


def pairs_per_second(gpu: Gpu, flops: float, precision: str, exact: float = 0.0) -> tuple[float, float]:
    """Pairs one GPU trains in a second, (slow, fast), at `flops` a pair.

    Args:
        gpu: one of `GPUS`.
        flops: of `pair_flops`.
        precision: fp32, bf16, fp16 or auto, as `train.precision`.
        exact: operations among `flops` that are computed in float32 whatever the precision.
    """
    half = precision == "fp16" or (precision in ("auto", "bf16") and gpu.bf16)
    peak, (low, high) = (gpu.half, (gpu.low, gpu.high)) if half else (gpu.single, SINGLE)
    seconds = [
        ((flops - exact) / (peak * share) + exact / (gpu.single * single)) / 1e12
        for share, single in zip((low, high), SINGLE, strict=True)
    ]
    return 1 / seconds[0], 1 / seconds[1]
