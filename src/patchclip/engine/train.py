"""Training: the loop, readable from top to bottom."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from patchclip.config import TrainConfig, config_to_dict, validate
from patchclip.contracts import ClipStats
from patchclip.engine import checkpoint
from patchclip.engine.assemble import Parts, assemble
from patchclip.engine.distributed import World, any_rank, joined, wait
from patchclip.engine.optim import lr_at, set_lr
from patchclip.engine.preflight import check_sets, inspect
from patchclip.engine.run import TrainResult, open_run, restore, save_state, write_summary
from patchclip.engine.tracking import Tracker
from patchclip.engine.watch import LossWatch
from patchclip.errors import Interrupted
from patchclip.evaluation._runner import evaluate
from patchclip.models.towers import ClipEncoder, pick_device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepInfo:
    """What a progress bar shows after a step."""

    step: int
    total_steps: int
    loss: float
    images_per_s: float
    seconds_left: float
    lr: float


OnStep = Callable[[StepInfo], None]


def train(config: TrainConfig, *, resume: bool = False, on_step: OnStep | None = None) -> TrainResult:
    """Trains a CLIP and leaves a run folder: checkpoints, metrics, evaluation, `model/` for open_clip.

    Args:
        config: from `load_config` or built in Python.
        resume: go on from the newest checkpoint of `config.output`, in mid-epoch too, with the losses of an
            unbroken run; a run that is done is returned as it is, a folder without a run is started.
        on_step: called after every step on the main rank.

    Returns:
        How it ended, and where.

    Raises:
        ConfigError, DataError, TowerError, CheckpointError: see `assemble` and `open_run`.
        TrainingError: updates stay non-finite.
        Interrupted: Ctrl-C or SIGTERM; the state is saved first. A second signal stops at once.
    """
    validate(config)
    check_sets(config.eval)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    device = pick_device(config.train.device)
    with joined(device) as world, stop_signals() as stop:
        if device.type == "cuda" and world.size > 1:
            device = torch.device("cuda", world.local_rank)
            torch.cuda.set_device(device)
        done = open_run(config, resume) if world.main else None
        wait(world)
        if any_rank(done is not None, world, device):
            log.info("%s is done already (step %s)", config.output, done and done.step)
            return done or TrainResult(Path(config.output), "done", 0, 0, 0.0, 0.0)
        parts = assemble(config, world, device)
        start, seconds = restore(parts, config) if resume else (0, 0.0)
        loop = Loop(config, parts, world, start, seconds)
        try:
            return loop.run(start, stop, on_step)
        finally:
            if loop.tracker is not None:
                loop.tracker.close()


class Loop:
    """One run of the loop: what it counts between two log lines."""

    def __init__(self, config: TrainConfig, parts: Parts, world: World, start: int, seconds: float) -> None:
        self.config, self.parts, self.world = config, parts, world
        self.seconds = seconds
        self.sums: dict[str, torch.Tensor] = {}
        self.counted, self.counted_seconds = 0, 0.0
        self.rate, self.loss = 0.0, float("nan")
        guess = getattr(parts.loss, "chance", None)
        batch = config.train.batch_size
        patience = max(100, 2 * config.optim.warmup_steps)
        self.watch = LossWatch(None if guess is None else guess(batch), patience, config.train.max_bad_steps)
        run = Path(config.output)
        tracking = config.tracking
        self.tracker = (
            Tracker(run, start, tracking.tensorboard, tracking.wandb, config_to_dict(config))
            if world.main
            else None
        )

    def run(self, start: int, stop: "Stop", on_step: OnStep | None) -> TrainResult:
        """Steps from `start` to the end, or until `stop` is asked for."""
        config, parts = self.config, self.parts
        batches = parts.stream.batches(start)
        _, batch = inspect(parts, lambda: next(batches), config.train.batch_size, parts.total_steps - start)
        saved = start
        clock = time.perf_counter()
        for step in range(start, parts.total_steps):
            batch = batch if step == start else next(batches)
            lr = self.schedule(step)
            pixels, tokens = parts.to_device(batch)
            terms = parts.gradients(
                pixels, tokens, (config.train.seed, step, self.world.rank), parts.scaler.scale
            )
            stats = parts.update()
            now = time.perf_counter()
            self.count(terms, now - clock)
            clock = now
            done = step + 1
            if done % config.train.log_every == 0 or done == parts.total_steps:
                self.write(done, lr, stats, clock)
            if on_step is not None and self.world.main:
                on_step(self.info(done, terms, lr))
            stopping = any_rank(stop.asked, self.world, parts.device)
            if stopping or done % config.checkpoint.every == 0 or done == parts.total_steps:
                saved = self.save(done)
            if stopping and done < parts.total_steps:
                self.finish("stopped", done)
                raise Interrupted(
                    f"stopped at step {saved} of {parts.total_steps}, all saved in {config.output}: "
                    "go on with --resume",
                    stop.exit_code,
                )
            if config.eval.every and done % config.eval.every == 0 and done < parts.total_steps:
                self.validate(done)
            clock = time.perf_counter()
        return self.finish("done", parts.total_steps)

    def schedule(self, step: int) -> float:
        """Sets learning rate and mask for this step; returns the learning rate."""
        config, total = self.config, self.parts.total_steps
        optim = config.optim
        lr = lr_at(step, total, optim.lr, min(optim.warmup_steps, total), optim.min_lr)
        set_lr(self.parts.optimizer, lr)
        slot = self.parts.slot
        if slot is not None:
            slot.progress = step / total
            slot.enabled = step < round(total * (1 - config.train.unmasked_share))
        return lr

    def count(self, terms: dict[str, torch.Tensor], seconds: float) -> None:
        """Adds a step to what the next log line averages, on the device."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.counted += 1
        self.counted_seconds += seconds
        self.seconds += seconds

    def write(self, step: int, lr: float, stats: ClipStats, since: float) -> None:
        """Writes the averages since the last log line and looks for trouble: the only host sync.

        A GPU's steps end only here: the wait since `since`, when the last one was counted, belongs to them.
        """
        means = {f"loss/{name}": (value / self.counted).item() for name, value in self.sums.items()}
        waited = time.perf_counter() - since
        self.counted_seconds += waited
        self.seconds += waited
        self.loss = sum(means.values())
        self.rate = self.counted * self.config.train.batch_size / self.counted_seconds
        slot = self.parts.slot
        values = {
            "epoch": step / self.parts.stream.steps_per_epoch,
            "loss": self.loss,
            **means,
            "lr": lr,
            "logit_scale": self.parts.model.logit_scale.exp().item(),
            "grad_norm": stats.norm.item(),
            "clipped_share": stats.clipped_share.item(),
            "images_per_s": self.rate,
            "mask_ratio": 0.0 if slot is None else slot.mask_ratio,
            "skipped_updates": self.parts.bad_in_all.item(),
            "seconds": self.seconds,
        }
        if self.tracker is not None:
            self.tracker.log("train", step, **values)
        self.sums, self.counted, self.counted_seconds = {}, 0, 0.0
        self.watch.see(step, self.loss, int(self.parts.bad_in_a_row.item()), int(values["skipped_updates"]))

    def info(self, step: int, terms: dict[str, torch.Tensor], lr: float) -> StepInfo:
        """For the progress bar; on a GPU the loss is the one of the last log line, to save a sync."""
        if self.parts.device.type == "cpu":
            loss = sum(value.item() for value in terms.values())
        else:
            loss = self.loss
        counted = self.counted * self.config.train.batch_size / max(self.counted_seconds, 1e-9)
        rate = self.rate or counted
        left = (self.parts.total_steps - step) * self.config.train.batch_size / max(rate, 1e-9)
        return StepInfo(step, self.parts.total_steps, loss, rate, left, lr)

    def save(self, step: int) -> int:
        """Writes a checkpoint; what the metrics say up to here is on the disk before it."""
        if self.tracker is not None:
            self.tracker.flush()
            save_state(self.parts, self.config, step, self.seconds)
        wait(self.world)
        return step

    def validate(self, step: int) -> None:
        """Evaluates zero-shot with the weights a run would end with, into `eval/` and the metrics."""
        chosen = self.config.eval
        if self.tracker is not None and chosen.datasets != []:
            ema = self.parts.ema
            model = self.parts.model if ema is None else ema.module
            model.eval()
            encoder = ClipEncoder(replace(self.parts.architecture, name=self.config.output, model=model))
            results = evaluate(
                encoder,
                chosen.root,
                chosen.datasets,
                batch_size=chosen.batch_size,
                output=Path(self.config.output) / "eval",
            )
            model.train()
            for result in results:
                log.info(
                    "%s: %s", result.dataset, ", ".join(f"{k} {v:.3f}" for k, v in result.metrics.items())
                )
            values: dict[str, Any] = {f"{r.dataset}/{k}": v for r in results for k, v in r.metrics.items()}
            self.tracker.log("val", step, **values)
        wait(self.world)

    def finish(self, status: str, step: int) -> TrainResult:
        """Final weights and evaluation of a run that is done, and the summary of any."""
        parts = self.parts
        run = Path(self.config.output)
        seen = step * self.config.train.batch_size
        rate = seen / self.seconds if self.seconds else 0.0
        result = TrainResult(run, status, step, parts.total_steps, self.seconds, rate)
        if status == "done":
            if self.tracker is not None:
                checkpoint.save_final(run, parts.architecture, parts.final_weights())
            self.validate(step)
        if self.tracker is not None:
            report_bad(parts)
            write_summary(parts, self.config, result)
        wait(self.world)
        return result


def report_bad(parts: Parts) -> None:
    """Says at the end which samples were skipped."""
    bad = parts.stream.bad
    if bad:
        listed = "; ".join(f"{sample.key}: {sample.reason}" for sample in bad[:10])
        log.warning("%d bad samples were skipped: %s%s", len(bad), listed, " ..." if len(bad) > 10 else "")


@dataclass
class Stop:
    """Set by a signal; `exit_code` is 128 + its number."""

    asked: bool = False
    exit_code: int = 130


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Turns the first Ctrl-C or SIGTERM into `asked`; the second acts as usual."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked, stop.exit_code = True, 128 + number
        for each, handler in earlier.items():
            signal.signal(each, handler)

    for number in earlier:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
