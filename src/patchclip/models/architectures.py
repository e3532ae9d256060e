"""Architectures by name: open_clip's configurations, our small ones beside them, and merged overrides."""

import contextlib
import copy
import difflib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

from patchclip.errors import CheckpointError, ConfigError, PatchclipError, TowerError
from patchclip.models.similarity import Cosine, Similarity, read_similarity, write_similarity

CONFIGS = Path(__file__).parent / "configs"
OURS = {path.stem for path in CONFIGS.glob("*.json")}
open_clip.add_model_config(CONFIGS)

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
"""Names open_clip and the Hugging Face hub give the two files of a checkpoint folder."""

WITH_WEIGHTS = ("hf-hub:", "local-dir:")
"""Names of models that bring their weights."""

LATEST = "latest"
"""File in a run's checkpoints/ that names the newest."""

ASIDE = ".old"
"""Ending of a checkpoint that is replaced or removed."""


@dataclass(frozen=True)
class Architecture:
    """A model with what is needed to feed it and to write it down.

    `model` is what `open_clip.create_model` returns; `model_cfg` and `preprocess_cfg` are the two halves of
    open_clip_config.json; `similarity` is what images and texts are compared by.
    """

    name: str
    model: Any
    tokenizer: Callable[[list[str]], Tensor]
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    similarity: Similarity = field(default_factory=Cosine)

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        size = self.preprocess_cfg["size"]
        return int(size if isinstance(size, int) else size[0])


def create(
    name: str,
    *,
    pretrained: str | None = None,
    image_size: int | None = None,
    context_length: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Architecture:
    """Creates a CLIP by name, with random or pre-trained weights.

    Args:
        name: open_clip configuration (`open_clip.list_models()`, ours among them), `hf-hub:org/name`, or a
            folder: of a run, or of a checkpoint.
        pretrained: open_clip tag, checkpoint file, or checkpoint folder; None starts from random weights
            (for folders and `hf-hub:` names from those that lie there).
        image_size: side of the input in pixels; a ViT's position embedding is resized to it.
        context_length: text tokens.
        overrides: merged key by key into the configuration, e.g. {"vision_cfg": {"layers": 6}}.

    Raises:
        ConfigError: unknown name or override.
        TowerError: an image size that the tower's library cannot change.
        CheckpointError: weights that are missing or do not fit.
    """
    given, name = name, source_of(name)
    base = configuration(name)
    if needs_quick_gelu(name, pretrained):
        base["quick_gelu"] = True
    config = merge(base, overrides or {})
    resize(config, image_size, context_length)
    arguments = {key: copy.deepcopy(value) for key, value in config.items() if key != "custom_text"}
    if (
        "hf_model_name" in config["text_cfg"]
    ):  # base weights of the text tower: only if no CLIP weights follow
        arguments["text_cfg"]["hf_model_pretrained"] = not (pretrained or name.startswith(WITH_WEIGHTS))
    with readable(name, pretrained):
        model = open_clip.create_model(
            name,
            pretrained=weights_file(name, pretrained),
            force_custom_text=bool(config.get("custom_text", False)),
            force_quick_gelu=bool(config.get("quick_gelu", False)),
            force_image_size=image_size,
            force_context_length=context_length,
            **arguments,
        )
        length = config["text_cfg"].get("context_length")
        tokenizer = open_clip.get_tokenizer(name, context_length=length)
    beside = similarity_beside(Path(pretrained or name.removeprefix("local-dir:")))
    return Architecture(given, model, tokenizer, config, dict(model.visual.preprocess_cfg), beside)


def similarity_beside(folder: Path) -> Similarity:
    """What the model of a folder is scored by: its own file, or its checkpoint's, else cosines."""
    if not folder.is_dir():
        return Cosine()
    ours = (folder / CONFIG).is_file()
    return read_similarity(folder if ours else checkpoint_folder(folder))


def needs_quick_gelu(name: str, pretrained: str | None) -> bool:
    """Whether published weights were trained with QuickGELU.

    OpenAI's were, under names without "-quickgelu" too; open_clip only warns there and computes with GELU.
    """
    return bool(pretrained and open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu", False))


def source_of(name: str) -> str:
    """What open_clip calls a folder with a checkpoint; any other name as it is.

    Raises:
        CheckpointError: a folder without a checkpoint.
    """
    return f"local-dir:{checkpoint_folder(Path(name))}" if Path(name).is_dir() else name


def configuration(name: str) -> dict[str, Any]:
    """The configuration of `name`, a copy. Raises ConfigError naming the nearest if there is none."""
    with readable(name, None):
        config = open_clip.get_model_config(name)
    if config is None:
        nearest = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.0)
        path = " and no such folder exists" if "/" in name else ""
        raise ConfigError(
            f"model {name!r} is unknown{path}; nearest: {', '.join(nearest)}. "
            "`patchclip list models` shows all"
        )
    return copy.deepcopy(config)


def merge(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with `changes`, section by section: a section is merged, not replaced."""
    merged = copy.deepcopy(dict(config))
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = (
            merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def resize(config: dict[str, Any], image_size: int | None, context_length: int | None) -> None:
    """Writes the sizes into the configuration's sections."""
    vision = config["vision_cfg"]
    if image_size is not None:
        if "timm_model_name" in vision and image_size != vision.get("image_size", 224):
            raise TowerError(
                f"image_size={image_size}: the timm tower {vision['timm_model_name']} is built for "
                f"{vision.get('image_size', 224)} px; choose a model name of the size you want"
            )
        vision["image_size"] = image_size
    if context_length is not None:
        config["text_cfg"]["context_length"] = context_length


def weights_file(name: str, pretrained: str | None) -> str | None:
    """A checkpoint folder as the path of its weights; a tag of `name` or a file as it is.

    Raises:
        CheckpointError: neither a tag nor a file or folder; names the nearest tag.
    """
    if pretrained is None or Path(pretrained).is_file() or name.startswith(WITH_WEIGHTS):
        return pretrained
    if Path(pretrained).is_dir():
        return str(checkpoint_folder(Path(pretrained)) / WEIGHTS)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags:
        near = difflib.get_close_matches(pretrained, tags, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise CheckpointError(
            f"{pretrained!r} is neither a file, a checkpoint folder nor a tag of {name}: {guess}"
            f"Tags: {', '.join(tags) or 'none'}"
        )
    return pretrained


def checkpoint_folder(path: Path) -> Path:
    """The folder with weights and configuration: `path` itself, or the newest inside a run folder.

    Raises:
        CheckpointError: no checkpoint there; the message says what a folder needs.
    """
    newest = latest(path)
    for folder in [path, path / "model"] + ([] if newest is None else [newest]):
        if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
            return folder
    raise CheckpointError(
        f"{path} holds no checkpoint: a folder needs {CONFIG} and {WEIGHTS}, or be the folder of a run"
    )


def latest(run: Path) -> Path | None:
    """The newest checkpoint of a run: the one its pointer names, else the highest step; None without one.

    The one named may lie aside, whole, where its replacement was cut off or is under way.
    """
    folders = sorted((run / "checkpoints").glob("step-????????"))
    aside = sorted((run / "checkpoints").glob(f"step-????????{ASIDE}"))
    pointer = run / "checkpoints" / LATEST
    if pointer.is_file():
        name = pointer.read_text(encoding="utf-8", errors="replace").strip()
        for named in (pointer.parent / name, pointer.parent / (name + ASIDE)):
            if named in (*folders, *aside):
                return named
    return folders[-1] if folders else None


BAD_VALUE = (TypeError, ValueError, AttributeError, AssertionError, ZeroDivisionError, KeyError, RuntimeError)
"""What building a model from a configuration with an impossible value raises."""


@contextlib.contextmanager
def readable(name: str, pretrained: str | None) -> Any:
    """Turns what open_clip raises about a configuration or weights into errors that name cause and cure."""
    weights = f" with weights {pretrained}" if pretrained else ""
    root = logging.getLogger()
    root.addFilter(not_random)
    try:
        yield
    except PatchclipError:
        raise
    except ImportError as error:
        raise ConfigError(
            f"model {name} needs the package {error.name}: pip install 'patchclip[hf]'"
        ) from error
    except Exception as error:  # open_clip, timm, torch and the file formats raise almost anything
        cause = f"{type(error).__name__}: {first_line(error)}"
        if "unexpected keyword argument" in cause:
            raise ConfigError(
                f"model {name}: a configuration key does not exist ({cause}); check model.overrides"
            ) from error
        from_files = pretrained is not None or name.startswith(WITH_WEIGHTS)
        if not from_files and isinstance(error, BAD_VALUE):
            raise ConfigError(f"model {name} cannot be built ({cause}): check model.overrides") from error
        raise CheckpointError(
            f"model {name}{weights} cannot be loaded ({cause}): the file may be missing, truncated, of "
            "another model or configuration, or need code to load, which is refused"
        ) from (None if isinstance(error, StopIteration) else error)  # contextlib lets that cause through
    finally:
        root.removeFilter(not_random)


def not_random(record: logging.LogRecord) -> bool:
    """Drops open_clip's warning about random weights: here they are always asked for."""
    return "Model initialized randomly" not in record.getMessage()


def first_line(error: Exception) -> str:
    """The first 300 characters of an error on one line."""
    return " ".join(str(error).split())[:300]


def list_models() -> list[tuple[str, str, str]]:
    """(name, summary, source) of every architecture, ours first."""
    names = sorted(open_clip.list_models(), key=lambda name: (name not in OURS, name))
    return [(n, summary(configuration(n)), "patchclip" if n in OURS else "open_clip") for n in names]


def summary(config: Mapping[str, Any]) -> str:
    """One line about a configuration: towers, sizes, embedding width."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision:
        image = f"timm {vision['timm_model_name']}"
    else:
        layers = vision.get("layers", 12)
        depth = "-".join(map(str, layers)) if isinstance(layers, list) else layers
        image = f"{depth} x {vision.get('width', 768)}, patch {vision.get('patch_size', '-')}"
    words = text.get("hf_model_name") or f"{text.get('layers', 12)} x {text.get('width', 512)}"
    tokens = text.get("context_length", 77)
    size = vision.get("image_size", 224)
    return f"image {image}, {size} px; text {words}, {tokens} tokens; {config['embed_dim']}-d"


def write_config(folder: Path, architecture: Architecture) -> None:
    """Writes open_clip_config.json, similarity.json if there is one, and a Hugging Face tokenizer's files."""
    content = {"model_cfg": architecture.model_cfg, "preprocess_cfg": architecture.preprocess_cfg}
    (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_similarity(folder, architecture.similarity)
    save = getattr(architecture.tokenizer, "save_pretrained", None)
    if save is not None:
        save(str(folder))
