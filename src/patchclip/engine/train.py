"""Training: the loop, readable from top to bottom."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from patchclip.config import TrainConfig, validate
from patchclip.contracts import Batch, ClipStats
from patchclip.data._worker import loaders_named
from patchclip.engine.assemble import assemble
from patchclip.engine.feed import Feed
from patchclip.engine.filling import OnFilled
from patchclip.engine.optim import reset_momentum
from patchclip.engine.parts import Parts
from patchclip.engine.preflight import check_methods, check_sets, inspect
from patchclip.engine.ranks.distributed import World, any_rank, joined, wait
from patchclip.engine.records import checkpoint
from patchclip.engine.records.journal import Journal
from patchclip.engine.records.metrics import measured
from patchclip.engine.records.run import Done, TrainResult, open_run, restore, save_state, write_summary
from patchclip.engine.records.window import Stopwatch, Window
from patchclip.engine.safety.locate import SecondLook
from patchclip.engine.safety.rollback import must_wait, roll_back
from patchclip.engine.safety.signals import Stop, StopVote, stop_signals
from patchclip.engine.safety.watch import loss_watch
from patchclip.engine.schedule import prepare
from patchclip.engine.scoring import scored
from patchclip.engine.validation import evaluate_parts
from patchclip.errors import CheckpointError, Interrupted
from patchclip.models.towers import pick_device

log = logging.getLogger(__name__)

CLIPPED = "clipped_share"


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
        TrainingError: updates stay non-finite, rollbacks do not help, or a process or rank is gone.
        Interrupted: Ctrl-C or SIGTERM; the state is saved first. A second signal stops at once.
    """
    validate(config)
    check_methods(config)
    check_sets(config.eval)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    device = pick_device(config.train.device)
    forked = [device] if device.type == "cuda" else []
    joining = joined(device, config.parallel.patience)
    with joining as world, stop_signals() as stop, torch.random.fork_rng(forked):
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
        with loaders_named():  # a loader's death may also reach us while the journal is closed
            try:
                with loaders_named():
                    return loop.run(before.step, stop, on_step)
            except Exception as error:
                loop.fail(error)
                raise
            finally:
                loop.journal.close()


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
        self.watch = loss_watch(config, parts.loss, int(parts.bad_in_all.item()))
        self.stopwatch = Stopwatch(before.seconds, parts.device)
        self.vote = StopVote(world, config.parallel.patience)
        self.window = Window()
        self.window.load_state_dict(before.window)
        self.rate, self.loss = 0.0, float("nan")
        self.done, self.due = before.step, False
        self.reset_every = int(config.stability.get("momentum_reset", 0))
        self.second_look = SecondLook(parts)
        self.journal = Journal(config, world, before.step)

    def run(self, start: int, stop: Stop, on_step: OnStep | None) -> TrainResult:
        """Steps from `start` to the end, or until `stop` is asked for."""
        config, parts = self.config, self.parts
        total, log_every = parts.total_steps, config.train.log_every
        self.feed = self.opened(start)
        while self.done < total:
            batch, *inputs = next(self.feed)
            lr = prepare(parts, config, self.done)
            terms, stats = self.step(batch, *inputs)
            done = self.done = self.done + 1
            if self.lost(done):
                self.feed = self.go_back(done)
                continue
            if done % log_every == 0 or done == total:
                self.write(done, lr, stats)
            if self.reset_every and done % self.reset_every == 0:
                reset_momentum(parts.optimizer)
            if on_step is not None and self.world.main:
                on_step(self.info(done, lr, terms))
            stopping = self.stopping(done, stop)
            self.due = self.due or done % config.checkpoint.every == 0
            if stopping or done == total or (self.due and not must_wait(parts.guard)):
                self.save(done)
            if stopping and done < total:
                self.finish("stopped", done)
                raise Interrupted(
                    f"stopped at step {done} of {total}, all saved in {config.output}: go on with --resume",
                    stop.exit_code,
                )
            if config.eval.every and done % config.eval.every == 0 and done < total:
                self.validate(done)
        return self.finish("done", total)

    def opened(self, start: int) -> Feed:
        """The batches from step `start` on; the first is looked at before anything is trained."""
        config, parts = self.config, self.parts
        batches = parts.stream.batches(start)
        with self.stopwatch.paused():
            left = parts.total_steps - start
            warm = config.train.compile  # the first step also compiles
            _, batch = inspect(parts, lambda: next(batches), config.train.batch_size, left, warm)
        return Feed(chain([batch], batches), parts.to_device, parts.device)

    def step(self, batch: Batch, pixels: Tensor, tokens: Tensor) -> tuple[dict[str, Tensor], ClipStats]:
        """One step on a batch: gradients, then an update unless the step is a bad one."""
        parts, number = self.parts, self.done + 1
        seed = (self.config.train.seed, self.done, self.world.rank)
        parts.first_bad.begin(number, batch.keys)
        terms = parts.gradients(pixels, tokens, seed, parts.scaler.scale)
        stats = parts.update(None if parts.guard is None else parts.guard.judge(terms, number))
        parts.first_bad.see(number, terms, parts.broken)
        self.window.add({**terms, CLIPPED: stats.clipped_share})
        self.second_look(batch, seed)
        return terms, stats

    def lost(self, done: int) -> bool:
        """Whether to go back to a checkpoint; on a GPU it is looked at with each log line only."""
        guard = self.parts.guard
        looks = self.parts.device.type == "cpu" or done % self.config.train.log_every == 0
        return guard is not None and guard.settings.spikes == "rollback" and looks and guard.exhausted

    def go_back(self, done: int) -> Feed:
        """Puts the last good checkpoint back, with the data after step `done`; returns the batches."""
        parts, journal = self.parts, self.journal
        with self.stopwatch.paused():
            self.trouble()
            before = roll_back(parts, self.config, self.world, done)
            journal.event("rollback", done, to=before.step, rollbacks=parts.guard and parts.guard.rollbacks)
            journal.rewind(before.step)
        self.window.load_state_dict(before.window)
        self.window.started += self.stopwatch.seconds - before.seconds
        self.done = before.step
        self.save(before.step)
        return Feed(parts.stream.batches(before.step), parts.to_device, parts.device)

    def stopping(self, done: int, stop: Stop) -> bool:
        """Whether any rank was asked to stop; several ranks agree every few seconds and at each log line."""
        return self.vote(stop, now=done % self.config.train.log_every == 0)

    def write(self, step: int, lr: float, stats: ClipStats) -> None:
        """Writes the averages since the last log line and looks for trouble: the only host sync."""
        parts, steps = self.parts, self.window.steps
        means = self.window.means()
        clipped = means.pop(CLIPPED)
        taken = self.window.close(self.stopwatch.seconds)
        self.loss, self.rate = sum(means.values()), steps * self.config.train.batch_size / taken
        values = {
            "epoch": (step + parts.stream.skipped) / parts.stream.steps_per_epoch,
            "loss": self.loss,
            **{f"loss/{name}": value for name, value in means.items()},
            "lr": lr,
            **measured(parts, stats),
            CLIPPED: clipped,
            "images_per_s": self.rate,
            "load_seconds": self.feed.waited,
            "load_share": min(1.0, self.feed.waited / max(taken, 1e-9)),
            "seconds": self.stopwatch.seconds,
        }
        self.feed.waited = 0.0
        self.journal.metrics("train", step, **values)
        self.trouble()
        self.watch.see(step, self.loss, int(parts.bad_in_a_row.item()), int(values["skipped_updates"]))

    def trouble(self) -> None:
        """Writes down spikes, and in words what was not finite, since the last look: a host sync."""
        self.journal.spikes(self.parts.guard)
        origin = self.parts.first_bad.report(self.second_look.tell())
        if origin is not None:
            self.second_look.watch()
        self.watch.hear(self.journal.nonfinite(origin, self.parts.bad_in_all.item()))

    def info(self, step: int, lr: float, terms: dict[str, Tensor]) -> StepInfo:
        """For the progress bar; on a GPU the loss is the one of the last log line, to save a sync."""
        batch, window = self.config.train.batch_size, self.window
        on_cpu = self.parts.device.type == "cpu"
        loss = sum(value.item() for value in terms.values()) if on_cpu else self.loss
        rate = self.rate or window.steps * batch / max(self.stopwatch.seconds - window.started, 1e-9)
        left = (self.parts.total_steps - step) * batch / max(rate, 1e-9)
        return StepInfo(step, self.parts.total_steps, loss, rate, left, lr)

    def save(self, step: int) -> None:
        """Writes a checkpoint; what metrics and events say up to here is on the disk before it."""
        with self.stopwatch.paused():
            self.trouble()  # a resume forgets what is told after the event below
            self.journal.event("checkpoint", step)
            self.journal.flush()
            done = Done(step, self.stopwatch.seconds, self.window.state_dict())
            save_state(self.parts, self.config, self.world, done)
            wait(self.world)
        self.due = False

    def validate(self, step: int) -> None:
        """Evaluates zero-shot with the weights a run would end with, into `eval/` and the metrics."""
        with self.stopwatch.paused():
            if self.config.eval.datasets != []:
                final = self.parts.final_module()
                if self.world.main:
                    self.journal.metrics("val", step, **evaluate_parts(self.config, self.parts, final))
            wait(self.world)

    def finish(self, status: str, step: int) -> TrainResult:
        """Final weights and evaluation of a run that is done, and the summary of any."""
        parts, seconds = self.parts, self.stopwatch.seconds
        run = Path(self.config.output)
        trained = step + parts.stream.skipped
        rate = trained * self.config.train.batch_size / max(seconds, 1e-9)
        result = TrainResult(run, status, step, parts.total_steps, seconds, rate)
        if status == "done":
            weights = parts.final_weights()
            if self.world.main:
                checkpoint.save_final(run, scored(parts), weights, parts.head)
            self.validate(step)
        write_summary(parts, self.config, self.world, result)
        self.journal.event("stop", step, status=status, total_steps=parts.total_steps)
        wait(self.world)
        return result

    def fail(self, error: Exception) -> None:
        """Writes down what ended the run, if it was not asked to stop."""
        if not isinstance(error, Interrupted):
            words, total = f"{type(error).__name__}: {error}", self.parts.total_steps
            with contextlib.suppress(CheckpointError):  # a full disk: `error` says so
                self.journal.event("stop", self.done, status="failed", total_steps=total, error=words)
