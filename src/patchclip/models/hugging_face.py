"""CLIP models in the format of Hugging Face transformers, as encoders like any other."""

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from patchclip.contracts import Masker, Patches
from patchclip.errors import CheckpointError, ConfigError, PatchclipError, TowerError
from patchclip.models.architectures import CONFIG, Architecture, first_line
from patchclip.models.towers import ClipEncoder

__all__ = ["HuggingFaceEncoder", "is_hugging_face", "open_hugging_face"]

PREFIX = "hf:"


@dataclass(frozen=True)
class Family:
    """What differs between the model types of transformers.

    Args:
        prefix: tokens before the patches (the class token).
        masked: whether padding is hidden from the text tower; a causal tower never sees it, SigLIP is trained
            to see it.
        tokens: text tokens of its training, where its configuration allows more; 0 reads the configuration.
    """

    prefix: int = 1
    masked: bool = False
    tokens: int = 0


FAMILIES = {
    "clip": Family(),
    "siglip": Family(prefix=0),
    "metaclip_2": Family(),
    "altclip": Family(masked=True, tokens=77),
    "chinese_clip": Family(masked=True, tokens=52),
}
HINTS = {"siglip2": "; SigLIP 2 of one image size has model_type siglip, this one takes patches of any shape"}


@dataclass(frozen=True)
class Preprocess:
    """The model's own image processor: an RGB image -> pixels [3, h, w], float32."""

    processor: Any = field(repr=False)

    def __call__(self, image: Image.Image) -> Tensor:
        found: Tensor = self.processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
        return found[0].float()


@dataclass(frozen=True)
class Tokenizer:
    """The model's own tokenizer: texts -> token ids [n, s], cut and padded to the text tower's length."""

    tokenizer: Any = field(repr=False)
    length: int

    def __call__(self, texts: list[str]) -> Tensor:
        found: Tensor = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )["input_ids"]
        return found


class HuggingFaceEncoder(ClipEncoder):
    """Encodes images, texts and patches with a model of transformers. Build it with `patchclip.load`.

    Args:
        architecture: model, tokenizer and configuration; its `model_cfg` is the model's config.json.
        preprocess: the model's image processor.
        precision: "fp32", or "bf16" / "fp16" for autocast; embeddings are float32 in every case.
    """

    def __init__(self, architecture: Architecture, preprocess: Preprocess, precision: str = "fp32") -> None:
        super().__init__(architecture, precision, preprocess)
        self.family = FAMILIES[architecture.model_cfg["model_type"]]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches, (gh, gw)."""
        side = self.image_size // int(self.architecture.model_cfg["vision_config"]["patch_size"])
        return side, side

    @torch.no_grad()
    def encode_image(
        self, pixels: Float[Tensor, "b 3 h w"], masking: Masker | None = None, seed: int = 0
    ) -> Float[Tensor, "b e"]:
        """Image embeddings, float32, of preprocessed pixels: of unit length, or rows of the similarity.

        Raises:
            TowerError: `masking`, which needs a model of open_clip.
        """
        if masking is not None:
            raise TowerError(f"{self.name}: masking={masking} needs an open_clip model; leave it out")
        with self.autocast():
            found = self.model.get_image_features(pixel_values=pixels.to(self.device))
        return self.similarity.image(pooled(found))

    @torch.no_grad()
    def encode_text(self, tokens: Int64[Tensor, "n s"]) -> Float[Tensor, "n e"]:
        """Text embeddings, float32, of ids from `tokenizer`: of unit length, or rows of the similarity."""
        tokens = tokens.to(self.device)
        mask = {}
        if self.family.masked:
            mask["attention_mask"] = (tokens != self.model.config.text_config.pad_token_id).long()
        with self.autocast():
            found = self.model.get_text_features(input_ids=tokens, **mask)
        return self.similarity.text(pooled(found))

    @torch.no_grad()
    def patch_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Unit-length patch embeddings in the space of the texts, on their grid.

        Each patch goes alone through what follows the blocks: the final norm and projection of CLIP, the
        attention pooling of SigLIP.
        """
        tower = self.model.vision_model
        with self.autocast():
            tokens = tower(pixel_values=pixels.to(self.device)).last_hidden_state[:, self.family.prefix :]
            if hasattr(self.model, "visual_projection"):
                features = self.model.visual_projection(tower.post_layernorm(tokens))
            else:  # its tokens are normed already
                features = tower.head(tokens.flatten(0, 1)[:, None]).unflatten(0, tokens.shape[:2])
        return Patches(F.normalize(features.float(), dim=-1), self.grid)


def pooled(found: Any) -> Tensor:
    """Rows, float32, of what transformers gives: a tensor before version 5, an output object since."""
    features: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return features.float()


def is_hugging_face(name_or_path: str | Path) -> bool:
    """Whether a name starts with "hf:", or a folder was written by transformers alone."""
    if str(name_or_path).startswith(PREFIX):
        return True
    path = Path(name_or_path)
    return (path / "config.json").is_file() and not (path / CONFIG).is_file()


def open_hugging_face(name_or_path: str | Path, precision: str = "fp32") -> HuggingFaceEncoder:
    """Loads a CLIP in the format of transformers, on the CPU and in eval mode.

    Weights are read from safetensors files only, and no code of a repository is run.

    Args:
        name_or_path: `hf:org/name` of the Hugging Face hub, or a folder (`hf:` before it or not) with
            config.json, model.safetensors, preprocessor_config.json and the tokenizer's files.
        precision: "fp32", or "bf16" / "fp16" for autocast.

    Raises:
        ConfigError: transformers is not installed, or a model type that is not known here.
        CheckpointError: files that are missing, damaged or do not fit each other.
    """
    name = str(name_or_path)
    source = name.removeprefix(PREFIX)
    library = transformers(name)
    with readable(name, "config.json"):
        config = library.AutoConfig.from_pretrained(source, trust_remote_code=False)
    if config.model_type not in FAMILIES:
        raise ConfigError(
            f"{name} has model_type={config.model_type!r}, which must be one of {', '.join(FAMILIES)}"
            f"{HINTS.get(config.model_type, '')}"
        )
    with readable(name, "preprocessor_config.json"):
        processor = library.AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    with readable(name, "the tokenizer's files"):
        tokenizer = library.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    check_words(name, len(tokenizer), int(config.text_config.vocab_size))
    model = weights(library, name, source)
    length = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
    texts = Tokenizer(tokenizer, FAMILIES[config.model_type].tokens or length)
    preprocess = Preprocess(processor)
    check_size(name, preprocess, int(config.vision_config.image_size))
    architecture = Architecture(
        name, model, texts, model_cfg(config, texts), preprocess_cfg(config, processor)
    )
    return HuggingFaceEncoder(architecture, preprocess, precision)


def transformers(name: str) -> Any:
    """The library. Raises ConfigError that names the extra where it is not installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            f"model {name} needs the package transformers: pip install 'patchclip[hf]'"
        ) from error


def weights(library: Any, name: str, source: str) -> Any:
    """The model with every weight from its files, float32.

    Raises:
        CheckpointError: no safetensors file, or weights that are missing in it.
    """
    with readable(name, "model.safetensors"), without_bar(library):
        model, report = library.AutoModel.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    missing = sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])})
    if missing:
        raise CheckpointError(
            f"{name}: {len(missing)} weights are missing in its files, the first {missing[0]}: "
            "the files are of another model than config.json; download or save both again"
        )
    return model.float().eval()


@contextmanager
def without_bar(library: Any) -> Iterator[None]:
    """Leaves out the bar of the weights as they are read, not those of downloads."""
    bars, hub = library.utils.logging, importlib.import_module("huggingface_hub").utils
    if not bars.is_progress_bar_enabled():
        yield
        return
    hidden = hub.are_progress_bars_disabled()

    def switch(of_weights: Callable[[], None]) -> None:
        with warnings.catch_warnings():  # a variable may settle the hub's bars, and then it warns
            warnings.simplefilter("ignore")
            of_weights()  # switches the hub's too
            (hub.disable_progress_bars if hidden else hub.enable_progress_bars)()

    switch(bars.disable_progress_bar)
    try:
        yield
    finally:
        switch(bars.enable_progress_bar)


def check_words(name: str, known: int, needed: int) -> None:
    """Raises CheckpointError for the empty tokenizer that transformers makes where its files are missing."""
    if known < needed / 2:
        raise CheckpointError(
            f"{name}: its tokenizer knows {known} tokens, the text tower {needed}: the tokenizer's files "
            "(tokenizer.json, or vocabulary and merges) are missing or of another model; save them beside it"
        )


def check_size(name: str, preprocess: Callable[[Image.Image], Tensor], side: int) -> None:
    """Raises CheckpointError where the image processor does not give what the model takes."""
    shape = tuple(preprocess(Image.new("RGB", (2 * side, side + 1))).shape)
    if shape != (3, side, side):
        raise CheckpointError(
            f"{name}: preprocessor_config.json makes pixels {list(shape)} of an image, the model takes "
            f"[3, {side}, {side}]: make size and crop_size there fit vision_config.image_size in config.json"
        )


def model_cfg(config: Any, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json, and what tells tokenizers apart: what a text embedding depends on beside the weights."""
    inner = tokenizer.tokenizer
    told = {"class": type(inner).__name__, "size": len(inner), "length": tokenizer.length}
    found: dict[str, Any] = config.to_dict()
    return found | {"tokenizer": told}


def preprocess_cfg(config: Any, processor: Any) -> dict[str, Any]:
    """preprocessor_config.json, and its size, mean and std by open_clip's names."""
    found: dict[str, Any] = processor.to_dict()
    size = int(config.vision_config.image_size)
    return found | {"size": size, "mean": list(processor.image_mean), "std": list(processor.image_std)}


@contextmanager
def readable(name: str, file: str) -> Iterator[None]:
    """Turns what transformers raises about a file into an error that names model, file and cause."""
    try:
        yield
    except PatchclipError:
        raise
    except ImportError as error:
        raise ConfigError(f"{name} needs a package that is missing ({first_line(error)})") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{name}: {file} cannot be read ({type(error).__name__}: {first_line(error)}); a model needs "
            "config.json, model.safetensors, preprocessor_config.json and the tokenizer's files, and the hub "
            "a connection"
        ) from error
