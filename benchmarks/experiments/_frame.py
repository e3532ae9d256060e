"""What experiments are made of: their setting, the small CLIP that they start from, and its figures."""

import hashlib
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FROM_SCRATCH = ("masking.name=none", "train.threads=1", "train.device=cpu", "train.precision=fp32")
QUIET = ("eval.datasets=[]", "tracking.tensorboard=false", "checkpoint.every=100000", "train.log_every=1000")


@dataclass(frozen=True)
class Measure:
    """What a column says: in words, whether more of it is good ("higher"), bad ("lower") or neither ("")."""

    text: str
    better: str = "higher"
    digits: int = 3


@dataclass(frozen=True)
class Setting:
    """One run of an experiment.

    Args:
        seed: of everything that is drawn.
        base: run folder of the small CLIP of this seed.
        folder: for models that are trained.
        quick: a few steps and images, to see that it runs.
    """

    seed: int
    base: Path
    folder: Path
    quick: bool = False

    def steps(self, full: int) -> int:
        """Training steps: `full`, or 2."""
        return 2 if self.quick else full

    def generator(self) -> torch.Generator:
        """On the CPU, of this seed."""
        return torch.Generator().manual_seed(self.seed)


def base_model(folder: Path, seed: int, quick: bool = False) -> Path:
    """The small CLIP of a seed, trained where it is not there yet: about 8 minutes on one core."""
    run = folder / f"base-{seed}{'-quick' if quick else ''}"
    if not (run / "model").is_dir():
        short = ["train.max_steps=2", "train.batch_size=32"] if quick else []
        _train([*FROM_SCRATCH, *QUIET, *short, f"train.seed={seed}", f"output={run}"])
    return run


def trained(setting: Setting, overrides: Sequence[str] = (), scratch: bool = False) -> Path:
    """Run folder of a training: from the base with a small learning rate, or from scratch.

    The same training is done once, whatever number of experiments asks for it.

    Args:
        setting: of the experiment; its seed is that of the training.
        overrides: settings on top, as the command line takes them (`train.max_steps=...`, `loss=...`).
        scratch: start from random weights with the recipe's own learning rate.
    """
    gentle = [f"model.pretrained={setting.base}", "optim.lr=1.0e-4", "optim.warmup_steps=10"]
    tiny = ["train.batch_size=16", "train.max_steps=2"] if setting.quick else []
    start = [] if scratch else gentle
    settings = ["train.batch_size=64", *start, *overrides, *tiny, f"train.seed={setting.seed}"]
    run = setting.folder / "runs" / hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    if not (run / "model").is_dir():
        shutil.rmtree(run, ignore_errors=True)  # of a call that was killed
        _train([*FROM_SCRATCH, *QUIET, *settings, f"output={run}"])
    return run


def _train(settings: Sequence[str]) -> None:
    from patchclip.config import load_config
    from patchclip.engine.train import train

    train(load_config("demo", list(settings)))


def scores(model: Any, suite: str = "classification,retrieval", datasets: Sequence[str] | None = None) -> Any:
    """Figures of a model on the shipped sets: {data set: {metric: value}}.

    Args:
        model: a run folder or an encoder.
        suite: as `patchclip.evaluate` takes it.
        datasets: names of shipped sets; None for zs_clipart, zs_emoji and retrieval_mixed.
    """
    from patchclip.evaluation._runner import evaluate

    names = list(datasets or ("zs_clipart", "zs_emoji", "retrieval_mixed"))
    found = evaluate(str(model) if isinstance(model, Path) else model, suite, "samples", names)
    return {result.dataset: dict(result.metrics) for result in found}


@lru_cache(maxsize=2)
def held_out(count: int | None = None) -> tuple[tuple[Any, ...], tuple[tuple[str, ...], ...]]:
    """Pictures and captions of real pairs that no base was trained on (the shipped set retrieval_mixed)."""
    from patchclip.data.benchmarks import open_sets

    found: Any = open_sets("samples", ["retrieval_mixed"])[0]
    rows = range(len(found) if count is None else min(count, len(found)))
    return tuple(found.images[i] for i in rows), tuple(found.captions[i] for i in rows)


def training_pairs(count: int, seed: int) -> tuple[list[Any], list[str]]:
    """Pictures and first captions of `count` shipped training pairs, drawn by a seed."""
    from patchclip.contracts import Pair
    from patchclip.data.pairs import open_pairs

    source = open_pairs("samples")
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed)).tolist()
    read = [source.read(number) for number in order[:count]]
    pairs: list[Any] = [pair for pair in read if isinstance(pair, Pair) and pair.captions]
    return [pair.image.convert("RGB") for pair in pairs], [pair.captions[0] for pair in pairs]


@torch.no_grad()
def embedded(encoder: Any, images: Sequence[Any], texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Image and text embeddings as the encoder gives them (`load(base)`, or `.raw()` of it)."""
    pixels = [encoder.preprocess(image) for image in images]
    image = [encoder.encode_image(torch.stack(pixels[i : i + 64])) for i in range(0, len(pixels), 64)]
    text = [
        encoder.encode_text(encoder.tokenizer(list(texts[i : i + 256]))) for i in range(0, len(texts), 256)
    ]
    return torch.cat(image), torch.cat(text)


def interleaved(without: Callable[[], Any], given: Callable[[], Any], rounds: int = 5) -> tuple[float, float]:
    """Median seconds of two pieces of work, called in turn after a round to warm up."""
    without(), given()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, kept in zip((without, given), seconds, strict=True):
            started = time.perf_counter()
            work()
            kept.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def step_cost(setting: Setting, overrides: Sequence[str], rounds: int = 5) -> tuple[float, float]:
    """Seconds of a training step of the base with ClipLoss, and with other settings."""
    from patchclip.config import load_config
    from patchclip.engine.assemble import assemble
    from patchclip.engine.ranks.distributed import World

    size = 16 if setting.quick else 64
    common = [*FROM_SCRATCH, *QUIET, f"model.pretrained={setting.base}", f"train.batch_size={size}"]

    def step(changes: Sequence[str]) -> Callable[[], Any]:
        config = load_config("demo", [*common, *changes, f"output={setting.folder / 'unused'}"])
        parts = assemble(config, World(), torch.device("cpu"))
        inputs = parts.to_device(next(parts.stream.batches(0)))

        def work() -> None:
            parts.gradients(*inputs, (0, 0, 0), lambda loss: loss)
            parts.update()

        return work

    return interleaved(step([]), step(overrides), 1 if setting.quick else rounds)
