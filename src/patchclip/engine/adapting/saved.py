"""What an adaptation leaves on disk: the figures, and what was fitted.

result.json                            the figures
adapter.json, adapter.safetensors      an adapter on embeddings: method, class names; its tensors
map.safetensors                        a map of the text embeddings
model/                                 adapted towers, or the model with the map folded in: plain open_clip
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from patchclip import spec
from patchclip._tensors import save_tensors
from patchclip.contracts import Adapter
from patchclip.engine.adapting.result import RESULT, Adaptation
from patchclip.engine.records.checkpoint import save_final
from patchclip.errors import CheckpointError
from patchclip.models.architectures import Architecture

ADAPTER, TENSORS = "adapter.json", "adapter.safetensors"
MAP = "map.safetensors"


@dataclass(frozen=True)
class SavedAdapter:
    """A fitted adapter and what it is about.

    Attributes:
        adapter: takes unit-length image embeddings of `model`.
        classnames: names of its classes, in order.
        prompts: of each class, whose mean embedding is its text.
        method: as it was asked for.
        model: name of the model that it was fitted on.
    """

    adapter: Adapter
    classnames: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    method: str
    model: str


def write_result(found: Adaptation, folder: Path) -> Path:
    """Writes result.json, whole or not at all."""
    return _write(folder / RESULT, found.to_json())


def read_result(folder: str | Path) -> Adaptation:
    """The figures in a folder that `patchclip adapt` wrote.

    Raises:
        CheckpointError: no such file, or one of something else.
    """
    path = Path(folder) / RESULT
    try:
        return Adaptation.from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read as an adaptation's figures: {error}") from error


def save_adapter(saved: SavedAdapter, folder: Path) -> Path:
    """Writes adapter.json and adapter.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: each.detach().cpu().contiguous().clone() for name, each in saved.adapter.state_dict().items()
    }
    partial = folder / f".{TENSORS}.{os.getpid()}.part"
    save_tensors(tensors, partial)
    partial.replace(folder / TENSORS)
    record = {name: value for name, value in vars(saved).items() if name != "adapter"}
    return _write(folder / ADAPTER, record)


def load_adapter(folder: str | Path) -> SavedAdapter:
    """The adapter of a folder that `patchclip adapt` wrote.

    Raises:
        CheckpointError: a file is missing, unreadable, or of another method.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / ADAPTER).read_text("utf-8"))
        tensors = load_file(folder / TENSORS)
        names, prompts = tuple(record["classnames"]), tuple(map(tuple, record["prompts"]))
        method, model = str(record["method"]), str(record["model"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} holds no adapter that can be read ({error}): patchclip adapt --output writes "
            f"{ADAPTER} and {TENSORS} for methods on embeddings; others leave a model in {folder / 'model'}"
        ) from error
    adapter = spec.build("adapt", method)
    adapter.load_state_dict(tensors)
    return SavedAdapter(adapter, names, prompts, method, model)


def save_model(architecture: Architecture, folder: Path) -> Path:
    """Writes model/, which open_clip and `patchclip eval --model` read."""
    folder.mkdir(parents=True, exist_ok=True)
    return save_final(folder, architecture, architecture.model.state_dict())


def _write(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    partial.replace(path)
    return path
