"""Checkpoints that are whole or absent: written beside, flushed to disk, then renamed.

checkpoints/step-00000200/   open_clip_model.safetensors, open_clip_config.json: plain open_clip
                             ema_model.safetensors: averaged weights, if there are any
                             similarity.json: what the model is scored by, unless by cosines
                             patch_head.safetensors, patch_head.json: a head, if one is trained
                             training_state.pt: optimiser, step, counters (tensors and plain values only)
                             checksums.json: of these files
checkpoints/latest           the name of the newest
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from patchclip._tensors import save_tensors
from patchclip.engine.records.checksums import check, write_checksums
from patchclip.engine.records.refusals import readable, refusals
from patchclip.errors import CheckpointError
from patchclip.models.architectures import ASIDE, LATEST, WEIGHTS, Architecture, latest, write_config
from patchclip.models.heads import HEAD_WEIGHTS, Head, write_head

STATE, EMA = "training_state.pt", "ema_model.safetensors"

WRITER = ("inline_container", "PytorchStreamWriter", "iostream error", "open file", "Parent directory")
"""Words by which a RuntimeError of torch's writer is known."""

__all__ = ["Weights", "latest", "load", "save", "save_final"]


@dataclass(frozen=True)
class Weights:
    """Weights to write: those that are trained (None: as the model, or its head, has them), and averages."""

    trained: Mapping[str, Tensor] | None = None
    averaged: Mapping[str, Tensor] | None = None


OWN = Weights()
"""As the model, or its head, has them; no averages."""


def save(
    run: Path,
    architecture: Architecture,
    state: Mapping[str, Any],
    weights: Weights = OWN,
    keep: int = 2,
    head: Head | None = None,
) -> Path:
    """Writes the checkpoint of `state["step"]`, points `latest` at it and removes all but the newest `keep`.

    With a head the model is frozen: its weights are written once, later checkpoints link to the same file.

    Raises:
        CheckpointError: the disk refuses (full, read-only); earlier checkpoints are left as they are.
    """
    folder = run / "checkpoints" / f"step-{state['step']:08d}"
    mend(run)
    before = latest(run)
    with whole(folder) as partial:
        if head is None or before is None or not linked(before / WEIGHTS, partial / WEIGHTS):
            model = weights.trained if head is None else None
            write_weights(partial / WEIGHTS, architecture.model.state_dict() if model is None else model)
        write_config(partial, architecture)
        if head is not None:
            write_head(partial, head, weights.trained)
        if weights.averaged is not None:
            write_weights(partial / EMA, weights.averaged)
        write_state(state, partial / STATE)
        write_checksums(partial)
    with refusals(folder.parent / LATEST):
        point(folder.parent / LATEST, folder.name)
    prune(folder.parent, keep, folder)
    return folder


def save_final(
    run: Path, architecture: Architecture, weights: Mapping[str, Tensor], head: Head | None = None
) -> Path:
    """Writes `model/`, the plain open_clip checkpoint that a run ends with.

    Args:
        run: its folder.
        architecture: of the model.
        weights: those that were trained: of the head if there is one, else of the model.
        head: trained on the frozen model, if one was.
    """
    folder = run / "model"
    with whole(folder) as partial:
        write_weights(partial / WEIGHTS, weights if head is None else architecture.model.state_dict())
        write_config(partial, architecture)
        if head is not None:
            write_head(partial, head, weights)
    return folder


def linked(file: Path, link: Path) -> bool:
    """Whether `link` is now another name of `file`; not every file system has that."""
    try:
        os.link(file, link)
    except OSError:
        return False
    return True


def load(
    folder: Path, device: torch.device
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor] | None]:
    """(training state, trained weights, averaged ones or None) of a checkpoint: of its head if it has one.

    Raises:
        CheckpointError: a file is missing, unreadable or changed; names the folder and the cure.
    """
    with readable(folder):
        check(folder)
        state = torch.load(folder / STATE, map_location=device, weights_only=True)
        head = (folder / HEAD_WEIGHTS).is_file()
        weights = load_file(folder / (HEAD_WEIGHTS if head else WEIGHTS), device=str(device))
        ema = load_file(folder / EMA, device=str(device)) if (folder / EMA).is_file() else None
    return state, weights, ema


def check_frozen(folder: Path, model: nn.Module) -> None:
    """Holds a frozen model against the weights beside which a head was trained.

    Raises:
        CheckpointError: they differ, or cannot be read.
    """
    with readable(folder):
        before = load_file(folder / WEIGHTS)
    now = model.state_dict()
    if before.keys() != now.keys() or not all(torch.equal(before[key], now[key].cpu()) for key in now):
        raise CheckpointError(
            f"the head in {folder} was trained on other weights than model.name and model.pretrained name: "
            "restore them, or start a new run"
        )


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to write into that becomes `folder` only when everything in it is on the disk."""
    partial = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with refusals(folder):
            partial.mkdir(parents=True)
            yield partial
            for path in sorted(partial.rglob("*")):
                flush(path)
            flush(partial)
            replace(partial, folder)
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def replace(partial: Path, folder: Path) -> None:
    """Renames `partial` to `folder`; one that was there is moved aside first, then removed.

    What is killed between the two renames is brought to its end by `mend`.
    """
    old = folder.with_name(folder.name + ASIDE)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(partial, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise
    flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def mend(run: Path) -> None:
    """Ends the replacement of a checkpoint that was killed between its two renames: the new one is whole.

    Such a step is the one that `latest` names, or nothing was pointed at yet; any other folder aside was to
    be removed.

    Raises:
        CheckpointError: the disk refuses.
    """
    pointer = run / "checkpoints" / LATEST
    named = pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.is_file() else None
    for old in sorted(pointer.parent.glob(f"step-????????{ASIDE}")):
        folder = old.with_suffix("")
        if folder.exists() or named not in (None, folder.name):
            continue
        partial = folder.with_name(folder.name + ".tmp")
        with refusals(folder):
            os.rename(partial if partial.exists() else old, folder)
            flush(folder.parent)


def point(pointer: Path, name: str) -> None:
    """Points `latest` at a folder, atomically."""
    partial = pointer.with_name(pointer.name + ".tmp")
    partial.write_text(name + "\n", encoding="utf-8")
    flush(partial)
    os.replace(partial, pointer)
    flush(pointer.parent)


def prune(folder: Path, keep: int, written: Path | None = None) -> None:
    """Keeps `written` and the newest others, `keep` in all; removes the rest, and cut-off writes."""
    for path in (*folder.glob("step-*.tmp"), *folder.glob(f"step-*{ASIDE}")):
        shutil.rmtree(path, ignore_errors=True)
    ordered = sorted(folder.glob("step-????????"), key=lambda path: (path == written, path.name))
    for path in ordered[: max(0, len(ordered) - keep)]:
        discard(path)


def discard(folder: Path) -> None:
    """Removes a checkpoint that `latest` does not name; what is removed in part has no checkpoint's name."""
    old = folder.with_name(folder.name + ASIDE)
    with refusals(folder):
        os.rename(folder, old)
    shutil.rmtree(old, ignore_errors=True)


def flush(path: Path) -> None:
    """Forces a file's or folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """A training state in torch's format.

    Raises:
        OSError: the disk refuses; torch's writer has no error of its own for it, others pass as they are.
    """
    try:
        torch.save(dict(state), path)
    except RuntimeError as error:
        if not any(each in str(error) for each in WRITER):
            raise
        raise OSError(f"{path.name}: {error}") from error


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Weights as safetensors; tensors that share memory are written one by one."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in weights.items():
        ready = tensor.detach().to("cpu", copy=False).contiguous()
        tensors[name] = ready.clone() if ready.data_ptr() in seen else ready
        seen.add(ready.data_ptr())
    save_tensors(tensors, path)
