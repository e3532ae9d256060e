"""The folder that an adaptation writes to: no file of another origin is lost, none of an older one stays."""

import os
import shutil
from pathlib import Path

from patchclip.engine.adapting.result import RESULT
from patchclip.engine.adapting.saved import ADAPTER as RECORD
from patchclip.engine.adapting.saved import MAP, TENSORS, read_result
from patchclip.engine.adapting.settings import ADAPTER, CAPTIONS, TOWERS
from patchclip.errors import CheckpointError, ConfigError

MODEL, REPORT = "model", "report.html"
WRITES = {ADAPTER: (RECORD, TENSORS), TOWERS: (MODEL,), CAPTIONS: (MAP, MODEL)}
"""What each kind leaves beside result.json; the page is written after all of it."""

RUN = ("config.yaml", "checkpoints")


def check_folder(folder: Path, model: str = "") -> None:
    """Raises ConfigError unless an adaptation may write here; changes nothing.

    Args:
        folder: new, empty, or that of an earlier adaptation, which is replaced.
        model: path or name of the model that is adapted.
    """
    told = f"output={str(folder)!r}"
    nearest = next(each for each in (folder, *folder.absolute().parents) if os.path.exists(each))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigError(f"{told} cannot be made a folder: {nearest} is a file, or closed to you")
    run = [name for name in RUN if (folder / name).exists()]
    if run:
        raise ConfigError(
            f"{told} is the folder of a run (it holds {run[0]}), whose model would be replaced: give a "
            f"folder of its own, as {folder / 'adapted'}"
        )
    source, kept = Path(model.rpartition(":")[2]).resolve(), folder.resolve() / MODEL
    if model and kept.exists() and (source == kept.parent or kept in (source, *source.parents)):
        raise ConfigError(f"{told} holds the model that is adapted, {model}: give another folder")
    held = [name for name in _names() if (folder / name).exists()]
    if held:
        try:
            read_result(folder)
        except CheckpointError as error:
            raise ConfigError(
                f"{told} holds {', '.join(held)}, which an adaptation would replace, and no {RESULT} of an "
                "earlier one: give another folder, or move them"
            ) from error


def clear_others(folder: Path, kind: str) -> None:
    """Removes what an earlier adaptation left there and one of this kind does not write."""
    for name in _names():
        path = folder / name
        if name in (RESULT, *WRITES[kind]) or not path.exists():
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _names() -> list[str]:
    """All that an adaptation of any kind writes."""
    return [*dict.fromkeys(name for names in WRITES.values() for name in names), RESULT, REPORT]
