"""The folder of a run: whether it may start, go on or is done; what is saved in it and read back."""

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from patchclip.config import TrainConfig, changed_keys, config_to_dict, load_stored, save_config
from patchclip.engine.parts import Parts
from patchclip.engine.precision import choose_precision
from patchclip.engine.ranks.distributed import World, gathered
from patchclip.engine.ranks.sharding import is_sharded, laid_out, laid_out_moments, whole
from patchclip.engine.records import checkpoint
from patchclip.engine.records.refusals import refusals
from patchclip.engine.scoring import scored
from patchclip.errors import CheckpointError, ConfigError

log = logging.getLogger(__name__)

CONFIG, SUMMARY = "config.yaml", "summary.json"
FREE = (
    "output",
    "tracking.",
    "checkpoint.",
    "eval.",
    "parallel.",
    "guard.",
    "data.workers",
    "data.prefetch",
    "data.max_bad_share",
    "data.expected_pairs",
)
FREE_TRAIN = (
    "train.device",
    "train.threads",
    "train.log_every",
    "train.max_bad_steps",
    "train.micro_batch",
    "train.grad_checkpointing",
)
"""Keys that may differ between a run and its resumption: none of them changes what is learnt."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended: `status` is "done" or "stopped"; the weights of a done run lie in `run/model`."""

    run: Path
    status: str
    step: int
    total_steps: int
    seconds: float
    images_per_s: float


def open_run(config: TrainConfig, resume: bool) -> TrainResult | None:
    """Makes or checks the folder of a run and writes its resolved configuration there.

    Returns:
        The result of a run that is done already, else None.

    Raises:
        ConfigError: the folder holds a run and `resume` is off, or `resume` is on with another configuration.
        CheckpointError: the disk refuses, or the checkpoints of a run that is not done are gone.
    """
    run = Path(config.output)
    checkpoint.mend(run)
    refuse_lost(run)
    started = checkpoint.latest(run) is not None or (run / SUMMARY).is_file()
    if started and not resume:
        raise ConfigError(
            f"{run} already holds a run: go on with it (--resume, resume=True), or choose another output="
        )
    if started and (run / CONFIG).is_file():
        before = load_stored(run / CONFIG)
        refuse_changes(config_to_dict(before), config_to_dict(config), run)
        micro = config.train.micro_batch, before.train.micro_batch
        if micro[0] != micro[1]:
            log.warning(
                "train.micro_batch is %s now, %s before: same samples and masks, other dropout", *micro
            )
    with refusals(run / CONFIG):
        run.mkdir(parents=True, exist_ok=True)
        save_config(config, run / CONFIG)
    return read_result(run)


def refuse_lost(run: Path) -> None:
    """Raises CheckpointError where a run has saved something and has no checkpoint any more."""
    pointer = run / "checkpoints" / checkpoint.LATEST
    if pointer.is_file() and checkpoint.latest(run) is None and read_result(run) is None:
        name = pointer.read_text(encoding="utf-8", errors="replace").strip()
        raise CheckpointError(
            f"{pointer} names {name or 'nothing'}, but there is no checkpoint beside it: bring it back, or "
            f"remove {pointer} to start the run anew from step 0"
        )


def refuse_changes(before: dict[str, Any], now: dict[str, Any], run: Path) -> None:
    """Raises ConfigError naming every key that differs and changes what is learnt."""
    changed = [
        f"{key} ({then} then, {at_present} now)"
        for key, (then, at_present) in changed_keys(before, now).items()
        if not key.startswith(FREE + FREE_TRAIN)
    ]
    if changed:
        raise ConfigError(
            f"{run} was trained with other values of {', '.join(changed)}: resume with its own "
            f"configuration ({run / CONFIG}) and these values, or choose another output="
        )


def read_result(run: Path) -> TrainResult | None:
    """The result written in a run's summary if it is done and its weights are there.

    A summary that lost its content (it is not flushed to the disk) is written anew, from the last checkpoint.
    """
    if not (run / SUMMARY).is_file() or not (run / "model").is_dir():
        return None
    try:
        summary = json.loads((run / SUMMARY).read_bytes())
    except ValueError as error:
        log.warning("%s is damaged (%s): it is written anew from the last checkpoint", run / SUMMARY, error)
        return None
    if summary["status"] != "done":
        return None
    fields = ("status", "step", "total_steps", "seconds", "images_per_s")
    return TrainResult(run, **{name: summary[name] for name in fields})


@dataclass(frozen=True)
class Done:
    """What a run has done: steps, seconds of training, the losses since the last log line."""

    step: int = 0
    seconds: float = 0.0
    window: dict[str, Any] = field(default_factory=dict)


def write_summary(parts: Parts, config: TrainConfig, world: World, result: TrainResult) -> None:
    """Writes summary.json: how it ended, how fast, and which samples any rank skipped; logs the first ten."""
    mine = [(sample.key, sample.reason) for sample in parts.stream.bad]
    bad = list(dict(reversed(gathered(mine, world))).items())[::-1]
    if not world.main:
        return
    guard = parts.guard
    if bad:
        listed = "; ".join(f"{key}: {reason}" for key, reason in bad[:10])
        log.warning("%d bad samples were skipped: %s%s", len(bad), listed, " ..." if len(bad) > 10 else "")
    content = {
        "status": result.status,
        "step": result.step,
        "total_steps": result.total_steps,
        "pairs": len(parts.source),
        "captions": parts.source.captions,
        "pairs_seen": (result.step + parts.stream.skipped) * config.train.batch_size,
        "bad": len(bad),
        "bad_pairs": parts.source.bad_pairs + len(bad) - len({each.key for each in parts.source.bad}),
        "bad_first": [list(sample) for sample in bad[:10]],
        "skipped_updates": int(parts.bad_in_all.item()),
        "skipped_spikes": 0 if guard is None else int(guard.spikes.item()),
        "rollbacks": 0 if guard is None else guard.rollbacks,
        "seconds": round(result.seconds, 3),
        "images_per_s": round(result.images_per_s, 2),
        "parameters": sum(p.numel() for p in parts.model.parameters()),
        "trained_parameters": sum(p.numel() for p in parts.trained.parameters()),
        "torch": torch.__version__,
        "device": str(parts.device),
        "precision": choose_precision(config.train.precision, parts.device),
        "threads": torch.get_num_threads(),
    }
    partial = result.run / (SUMMARY + ".tmp")
    with refusals(result.run / SUMMARY):
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(partial, result.run / SUMMARY)


def save_state(parts: Parts, config: TrainConfig, world: World, done: Done) -> None:
    """Writes a checkpoint from which `restore` goes on as if nothing had happened; called on every rank.

    Shares of weights and moments are gathered: the files are those of a run on one process.
    """
    stream = parts.stream.state_dict()
    stream["bad"] = gathered(stream["bad"], world)
    averaged = None if parts.ema is None else parts.ema.module.state_dict()
    found = (parts.trained.state_dict(), averaged, parts.optimizer.state_dict(), parts.clipper.state_dict())
    trained, averaged, optimizer, clipper = whole(found, keep=world.main)
    if not world.main:
        return
    state = {
        "step": done.step,
        "seconds": done.seconds,
        "window": done.window,
        "pairs": len(parts.source),
        "ranks": world.size,
        "precision": choose_precision(config.train.precision, parts.device),
        "optimizer": optimizer,
        "scaler": parts.scaler.state_dict(),
        "clipper": clipper,
        "stream": stream,
        "loss": parts.loss.state_dict(),
        "teacher": None if parts.teacher is None else parts.teacher.state_dict(),
        "bad_in_a_row": parts.bad_in_a_row,
        "bad_in_all": parts.bad_in_all,
        "guard": {} if parts.guard is None else parts.guard.state_dict(),
        "averaged": 0 if parts.ema is None else int(parts.ema.n_averaged.item()),
    }
    weights = checkpoint.Weights(trained, averaged)
    checkpoint.save(Path(config.output), scored(parts), state, weights, config.checkpoint.keep, parts.head)


def restore(parts: Parts, config: TrainConfig, world: World) -> Done:
    """Puts the newest checkpoint into the parts; nothing is done if there is none.

    Raises:
        CheckpointError: unreadable, not the same on every rank, the data now has another number of pairs, or
            a head another model.
    """
    folder = newest(config, world)
    if folder is None:
        return Done()
    sharded = is_sharded(parts.trained)
    state, weights, ema = checkpoint.load(folder, torch.device("cpu") if sharded else parts.device)
    if state["pairs"] != len(parts.source):
        raise CheckpointError(
            f"{folder} was trained on {state['pairs']:,} pairs but there are {len(parts.source):,} now: "
            "the order of samples would differ; restore the data or start a new run"
        )
    if parts.head is not None:
        checkpoint.check_frozen(folder, parts.model)
    warn_of_changes(state, world.size, choose_precision(config.train.precision, parts.device))
    parts.trained.load_state_dict(laid_out(weights, parts.trained))
    parts.optimizer.load_state_dict(laid_out_moments(state.pop("optimizer"), parts.optimizer))
    state = moved(state, parts.device)
    parts.scaler.load_state_dict(state["scaler"])
    parts.clipper.load_state_dict(state["clipper"])
    parts.stream.load_state_dict(state["stream"])
    parts.loss.load_state_dict(state.get("loss", {}))
    if parts.teacher is not None:
        parts.teacher.load_state_dict(state["teacher"])
    parts.bad_in_a_row, parts.bad_in_all = state["bad_in_a_row"], state["bad_in_all"]
    if parts.guard is not None:
        parts.guard.load_state_dict(state.get("guard", {}))
    if parts.ema is not None and ema is not None:
        parts.ema.module.load_state_dict(laid_out(ema, parts.ema.module))
        parts.ema.n_averaged.fill_(state["averaged"])
    step, skipped = int(state["step"]), parts.stream.skipped
    same_everywhere(f"step {step}, {skipped} skipped", config, world)
    log.info("resuming from %s", folder)
    return Done(step, float(state["seconds"]), state["window"])


def newest(config: TrainConfig, world: World) -> Path | None:
    """The newest checkpoint of a run, None if there is none; called on every rank.

    Raises:
        CheckpointError: ranks see different ones.
    """
    folder = checkpoint.latest(Path(config.output))
    same_everywhere("none" if folder is None else folder.name, config, world)
    return folder


def same_everywhere(seen: str, config: TrainConfig, world: World) -> None:
    """Raises CheckpointError unless every rank sees the same of a run's folder."""
    found = gathered([seen], world)
    first = {each: found.index(each) for each in dict.fromkeys(found)}
    if len(first) > 1:
        listed = ", ".join(f"rank {rank}: {each}" for each, rank in first.items())
        raise CheckpointError(
            f"ranks see different checkpoints in {config.output} ({listed}): output= must lie on a file "
            "system that all ranks see"
        )


def moved(tree: Any, device: torch.device) -> Any:
    """A tree of dicts, lists and tuples with its tensors on the device."""
    if isinstance(tree, torch.Tensor):
        return tree.to(device)
    if isinstance(tree, dict):
        return {key: moved(value, device) for key, value in tree.items()}
    return type(tree)(moved(value, device) for value in tree) if isinstance(tree, list | tuple) else tree


def warn_of_changes(state: dict[str, Any], ranks: int, precision: str) -> None:
    """Says when a machine makes the losses differ from those of an unbroken run."""
    if state["ranks"] != ranks:
        log.warning("now %d ranks, %d before: same samples and masks, other dropout", ranks, state["ranks"])
    if state["precision"] != precision:
        log.warning("now computing in %s, in %s before", precision, state["precision"])
