"""Training: the loop, readable from top to bottom."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patchclip.config import TrainConfig, config_to_dict, validate
from patchclip.contracts import ClipStats
from patchclip.engine import checkpoint
from patchclip.engine.assemble import Parts, assemble
from patchclip.engine.distributed import World, any_rank, joined, wait
from patchclip.engine.optim import lr_at, set_lr
from patchclip.engine.preflight import check_methods, check_sets, inspect
from patchclip.engine.run import Done, TrainResult, open_run, restore, save_state, write_summary
from patchclip.engine.signals import Stop, stop_signals
from patchclip.engine.tracking import Tracker
from patchclip.engine.watch import LossWatch
from patchclip.engine.window import Stopwatch, Window
from patchclip.errors import Interrupted
from patchclip.evaluation._runner import evaluate
from patchclip.evaluation.embedder import Encoding
from patchclip.evaluation.result import Result
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
    check_methods(config)
    check_sets(config.eval)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    device = pick_device(config.train.device)
    forked = [device] if device.type == "cuda" else []
    with joined(device) as world, stop_signals() as stop, torch.random.fork_rng(forked):
        if device.type == "cuda" and world.size > 1:
            device = torch.device("cuda", world.local_rank)
            torch.cuda.set_device(device)
        done = open_run(config, resume) if world.main else None
        wait(world)
        if any_rank(done is not None, world, device):
            log.info("%s is done already (step %s)", config.output, done and done.step)
            return done or TrainResult(Path(config.output), "done", 0, 0, 0.0, 0.0)
        parts = assemble(config, world, device, OnFilled(stop))
        before = restore(parts, config, world) if resume else Done()
        loop = Loop(config, parts, world, before)
        try:
            return loop.run(before.step, stop, on_step)
        finally:
            if loop.tracker is not None:
                loop.tracker.close()


class OnFilled:
    """Says each tenth of the filling of `data.features`, and ends it if the run was asked to stop."""

    def __init__(self, stop: Stop) -> None:
        self.stop, self.tenths = stop, 0

    def __call__(self, done: int, images: int) -> None:
        """Called with the images encoded so far and those to encode, on this rank."""
        if self.stop.asked:
            raise Interrupted(
                f"stopped with {done:,} of {images:,} images encoded: the next run goes on behind the shards "
                "that are full",
                self.stop.exit_code,
            )
        if 10 * done // images > self.tenths:
            self.tenths = 10 * done // images
            log.info("encoded %d of %d images", done, images)


class Loop:
    """One run of the loop.

    Args:
        config: of the run.
        parts: what it is made of.
        world: this process among all.
        before: what an earlier run has done, if this one goes on.
    """

    def __init__(self, config: TrainConfig, parts: Parts, world: World, before: Done) -> None:
        self.config, self.parts, self.world = config, parts, world
        self.watch = loss_watch(config, parts)
        self.stopwatch = Stopwatch(before.seconds, parts.device)
        self.window = Window()
        self.window.load_state_dict(before.window)
        self.rate, self.loss = 0.0, float("nan")
        tracking, run = config.tracking, Path(config.output)
        self.tracker = (
            Tracker(run, before.step, tracking.tensorboard, tracking.wandb, config_to_dict(config))
            if world.main
            else None
        )

    def run(self, start: int, stop: Stop, on_step: OnStep | None) -> TrainResult:
        """Steps from `start` to the end, or until `stop` is asked for."""
        config, parts = self.config, self.parts
        batches = parts.stream.batches(start)
        with self.stopwatch.paused():
            left = parts.total_steps - start
            warm = config.train.compile  # the first step also compiles
            _, batch = inspect(parts, lambda: next(batches), config.train.batch_size, left, warm)
        for step in range(start, parts.total_steps):
            batch = batch if step == start else next(batches)
            lr = self.schedule(step)
            pixels, tokens = parts.to_device(batch)
            seed = (config.train.seed, step, self.world.rank)
            terms = parts.gradients(pixels, tokens, seed, parts.scaler.scale)
            self.window.add(terms)
            stats = parts.update()
            done = step + 1
            if done % config.train.log_every == 0 or done == parts.total_steps:
                self.write(done, lr, stats)
            if on_step is not None and self.world.main:
                on_step(self.info(done, lr, terms))
            stopping = self.stopping(done, stop)
            if stopping or done % config.checkpoint.every == 0 or done == parts.total_steps:
                self.save(done)
            if stopping and done < parts.total_steps:
                self.finish("stopped", done)
                raise Interrupted(
                    f"stopped at step {done} of {parts.total_steps}, all saved in {config.output}: "
                    "go on with --resume",
                    stop.exit_code,
                )
            if config.eval.every and done % config.eval.every == 0 and done < parts.total_steps:
                self.validate(done)
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

    def stopping(self, done: int, stop: Stop) -> bool:
        """Whether any rank was asked to stop; several ranks agree on it with each log line."""
        if self.world.size == 1:
            return stop.asked
        asked = done % self.config.train.log_every == 0
        return asked and any_rank(stop.asked, self.world, self.parts.device)

    def write(self, step: int, lr: float, stats: ClipStats) -> None:
        """Writes the averages since the last log line and looks for trouble: the only host sync."""
        batch, slot = self.config.train.batch_size, self.parts.slot
        steps = self.window.steps
        means = self.window.means()
        taken = self.window.close(self.stopwatch.seconds)
        self.loss, self.rate = sum(means.values()), steps * batch / taken
        values = {
            "epoch": step / self.parts.stream.steps_per_epoch,
            "loss": self.loss,
            **{f"loss/{name}": value for name, value in means.items()},
            "lr": lr,
            "logit_scale": self.parts.model.logit_scale.exp().item(),
            "grad_norm": stats.norm.item(),
            "clipped_share": stats.clipped_share.item(),
            "images_per_s": self.rate,
            "mask_ratio": 0.0 if slot is None else slot.mask_ratio,
            "skipped_updates": self.parts.bad_in_all.item(),
            "seconds": self.stopwatch.seconds,
        }
        if self.tracker is not None:
            self.tracker.log("train", step, **values)
        self.watch.see(step, self.loss, int(self.parts.bad_in_a_row.item()), int(values["skipped_updates"]))

    def info(self, step: int, lr: float, terms: dict[str, Tensor]) -> StepInfo:
        """For the progress bar; on a GPU the loss is the one of the last log line, to save a sync."""
        batch, window = self.config.train.batch_size, self.window
        on_cpu = self.parts.device.type == "cpu"
        loss = sum(value.item() for value in terms.values()) if on_cpu else self.loss
        rate = self.rate or window.steps * batch / max(self.stopwatch.seconds - window.started, 1e-9)
        left = (self.parts.total_steps - step) * batch / max(rate, 1e-9)
        return StepInfo(step, self.parts.total_steps, loss, rate, left, lr)

    def save(self, step: int) -> None:
        """Writes a checkpoint; what the metrics say up to here is on the disk before it."""
        with self.stopwatch.paused():
            if self.tracker is not None:
                self.tracker.flush()
            done = Done(step, self.stopwatch.seconds, self.window.state_dict())
            save_state(self.parts, self.config, self.world, done)
            wait(self.world)

    def validate(self, step: int) -> None:
        """Evaluates zero-shot with the weights a run would end with, into `eval/` and the metrics."""
        with self.stopwatch.paused():
            if self.tracker is not None and self.config.eval.datasets != []:
                self.tracker.log("val", step, **evaluate_parts(self.config, self.parts))
            wait(self.world)

    def finish(self, status: str, step: int) -> TrainResult:
        """Final weights and evaluation of a run that is done, and the summary of any."""
        parts, seconds = self.parts, self.stopwatch.seconds
        run = Path(self.config.output)
        rate = step * self.config.train.batch_size / max(seconds, 1e-9)
        result = TrainResult(run, status, step, parts.total_steps, seconds, rate)
        if status == "done":
            if self.tracker is not None:
                checkpoint.save_final(run, parts.architecture, parts.final_weights(), parts.head)
            self.validate(step)
        write_summary(parts, self.config, self.world, result)
        wait(self.world)
        return result


def loss_watch(config: TrainConfig, parts: Parts) -> LossWatch:
    """The watch for this loss: guessing has a known value for InfoNCE, and is normal while warming up."""
    guess = getattr(parts.loss, "chance", None)
    chance = None if guess is None else guess(config.train.batch_size)
    return LossWatch(chance or None, max(100, 2 * config.optim.warmup_steps), config.train.max_bad_steps)


def evaluate_parts(config: TrainConfig, parts: Parts) -> dict[str, Any]:
    """Zero-shot figures of the weights a run would end with, as "<set>/<metric>"."""
    log.info("evaluating on %s", config.eval.root)
    final: Any = parts.trained if parts.ema is None else parts.ema.module
    final.eval()
    model, head = (final, None) if parts.head is None else (parts.model, final)
    encoder = ClipEncoder(replace(parts.architecture, name=config.output, model=model), head=head)
    output = Path(config.output) / "eval"
    with torch.compiler.set_stance("force_eager"):  # each batch of another size would be a graph of its own
        results = evaluate(
            *(encoder, config.eval.suites, config.eval.root, config.eval.datasets),
            output=output,
            encoding=Encoding(batch_size=config.eval.batch_size),
        )
    final.train()
    for result in results:
        log.info("%s: %s", result.dataset, ", ".join(f"{k} {v:.3f}" for k, v in result.metrics.items()))
    return {f"{score_key(r)}/{k}": v for r in results for k, v in r.metrics.items()}


def score_key(result: Result) -> str:
    """What a result's metrics are logged under: its data set, and the task where it is not zero-shot."""
    return result.dataset if result.task.startswith("zeroshot") else f"{result.dataset}/{result.task}"
