"""Heads on disk: weights and options of a trained head beside the open_clip files of its model.

    patch_head.safetensors   its weights
    patch_head.json          {"name": of the method, "options": of its constructor, "width", "embedding"}

Plain open_clip and clip_benchmark do not look at either file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from patchclip import registry
from patchclip._tensors import save_tensors
from patchclip.errors import CheckpointError, ConfigError

HEAD_WEIGHTS, HEAD_CONFIG = "patch_head.safetensors", "patch_head.json"


@dataclass(frozen=True)
class Head:
    """A head with what is needed to make it again.

    Attributes:
        module: the head itself, a `contracts.PatchHead`.
        name: of its method.
        options: of its constructor.
        width: of the tokens it reads.
        embedding: of what it gives.
    """

    module: Any
    name: str
    options: Mapping[str, Any]
    width: int
    embedding: int


def make_head(name: str, options: Mapping[str, Any], width: int, embedding: int) -> Head:
    """A head with new weights from torch's generator.

    Raises:
        ConfigError: an unknown name or option.
    """
    module: Any = registry.build("heads", name, **options)
    module.build(width, embedding)
    return Head(module, name, dict(options), width, embedding)


def write_head(folder: Path, head: Head, weights: Mapping[str, Tensor] | None = None) -> None:
    """Writes both files.

    Args:
        folder: of the model.
        head: what to write.
        weights: in place of its own, for instance averaged ones.
    """
    module: nn.Module = head.module
    found = module.state_dict() if weights is None else weights
    tensors = {key: value.detach().to("cpu").contiguous().clone() for key, value in found.items()}
    save_tensors(tensors, folder / HEAD_WEIGHTS)
    sizes = {"width": head.width, "embedding": head.embedding}
    content: dict[str, Any] = {"name": head.name, "options": dict(head.options), **sizes}
    (folder / HEAD_CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_head(folder: Path) -> Head | None:
    """The head of a model's folder in eval mode, None where there is none.

    Raises:
        CheckpointError: one of the two files is missing, damaged, or does not fit the other.
    """
    config, weights = folder / HEAD_CONFIG, folder / HEAD_WEIGHTS
    if not config.is_file() and not weights.is_file():
        return None
    cure = f"restore both {HEAD_CONFIG} and {HEAD_WEIGHTS}, or remove both to use the model without its head"
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        sizes = int(content["width"]), int(content["embedding"])
        with torch.random.fork_rng(devices=[]):
            head = make_head(str(content["name"]), dict(content["options"]), *sizes)
        head.module.load_state_dict(load_file(weights))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ConfigError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CheckpointError(f"the head in {folder} cannot be read ({reason}): {cure}") from error
    head.module.requires_grad_(False).eval()
    return head
