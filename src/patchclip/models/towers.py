"""A trained CLIP as every suite and application sees it: images, texts and patches in one space."""

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from patchclip.contracts import Masker, Patches, PatchHead
from patchclip.errors import ConfigError, TowerError
from patchclip.models.architectures import (
    Architecture,
    checkpoint_folder,
    configuration,
    create,
    list_models,
    readable,
)
from patchclip.models.heads import read_head
from patchclip.models.image_tower import Tower, alone, image_tower
from patchclip.models.masked import masked, slot_of
from patchclip.models.similarity import Cosine, Raw, Similarity, read_similarity
from patchclip.models.text import encode_text, unpadded

__all__ = ["ClipEncoder", "list_models", "load"]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ClipEncoder:
    """Encodes images, texts and patches with an open_clip model. Build it with `patchclip.load`.

    Args:
        architecture: model, tokenizer and configuration.
        precision: "fp32", or "bf16" / "fp16" for autocast; embeddings are float32 in every case.
        preprocess: of an RGB image; None for open_clip's by the architecture's configuration.
        head: trained by `patchclip align` on this model's patches, if there is one.
        similarity: what embeddings become, and are compared by; None for the architecture's, else the cosine.
    """

    similarity: Similarity = Cosine()

    def __init__(
        self,
        architecture: Architecture,
        precision: str = "fp32",
        preprocess: Callable[[Image.Image], Tensor] | None = None,
        head: PatchHead | None = None,
        similarity: Similarity | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision={precision!r} must be one of {', '.join(PRECISIONS)}")
        self.name = architecture.name
        self.architecture = architecture
        self.model: Any = architecture.model
        self.tokenizer = architecture.tokenizer
        if preprocess is None:
            preprocess = image_transform_v2(PreprocessCfg(**architecture.preprocess_cfg), is_train=False)
        self.preprocess = preprocess
        self.precision = precision
        self.head = head
        self.similarity = architecture.similarity if similarity is None else similarity

    def raw(self) -> "ClipEncoder":
        """The same model, embeddings as its towers give them, not normalised; patches stay of unit length."""
        return self._with(Raw())

    def unit(self) -> "ClipEncoder":
        """The same model with embeddings of unit length, whatever it scores by: for patches, probes, maps."""
        return self if isinstance(self.similarity, Cosine) else self._with(Cosine())

    def _with(self, similarity: Similarity) -> "ClipEncoder":
        found = copy.copy(self)
        found.similarity = similarity
        return found

    @property
    def device(self) -> torch.device:
        """Where the model lies; inputs are moved there."""
        return next(self.model.parameters()).device

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.architecture.image_size

    @property
    def scale(self) -> float:
        """What the model multiplies cosines by, exp(logit_scale); 1 for a model without one."""
        logit_scale = getattr(self.model, "logit_scale", None)
        return 1.0 if logit_scale is None else float(logit_scale.detach().float().exp())

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches, (gh, gw). Raises TowerError for towers without patches."""
        visual = self.model.visual
        size = getattr(visual, "grid_size", None)
        if size is None:
            embedding = getattr(getattr(visual, "trunk", visual), "patch_embed", None)
            size = getattr(embedding, "grid_size", None)
        if size is None:
            raise TowerError(f"{self.name}: this image tower has no patch grid; use a ViT")
        return int(size[0]), int(size[1])

    @torch.no_grad()
    def encode_image(
        self, pixels: Float[Tensor, "b 3 h w"], masking: Masker | None = None, seed: int = 0
    ) -> Float[Tensor, "b e"]:
        """Image embeddings, float32, of preprocessed pixels: of unit length, or rows of the similarity.

        Args:
            pixels: images of the model's size.
            masking: what to see of them, to encode large collections at a part of the cost; progress 1.
                A masker that asks for a guide needs its `scorer` set.
            seed: of the mask's randomness, which all images share: an embedding does not depend on its batch.

        Raises:
            TowerError: `masking` on a tower that cannot drop tokens.
        """
        with contextlib.ExitStack() as stack:
            if masking is not None:
                stack.enter_context(masked(self.model, masking, 1.0, seed)).shared = True
            stack.enter_context(self.autocast())
            return self.similarity.image(self.model.encode_image(pixels.to(self.device)).float())

    @torch.no_grad()
    def encode_text(self, tokens: Int64[Tensor, "n s"]) -> Float[Tensor, "n e"]:
        """Text embeddings, float32, of token ids from `tokenizer`: of unit length, or rows of the similarity.

        A causal tower is spared the padding behind the longest text, which none of its tokens sees.
        """
        with self.autocast():
            embedded = encode_text(self.model, unpadded(self.model, tokens).to(self.device))
            return self.similarity.text(embedded.float())

    @torch.no_grad()
    def patch_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Unit-length patch embeddings in the space of the texts, on their grid.

        Each patch goes alone through the tower's own pooling, final norm and projection: what the image
        embedding would be if the tower pooled that patch only.

        Raises:
            TowerError: while a mask is active (the grid would have holes), or a tower without patches.
        """
        gh, gw = self.grid
        slot = slot_of(self.model)
        if slot is not None and slot.masks(gh * gw):
            raise TowerError("patch_features needs every patch but a mask is active: call model.eval() first")
        with self.autocast():
            features = project_patches(self.model.visual, pixels.to(self.device))
        if features.shape[1] != gh * gw:
            raise TowerError(
                f"patch_features got {features.shape[1]} patches for a grid of {gh} x {gw}: "
                f"call model.eval(), and use images of {self.image_size} px"
            )
        return Patches(F.normalize(features.float(), dim=-1), (gh, gw))

    def tower(self, step: int | None = None) -> Tower:
        """The image tower taken apart, with the trained head if there is one.

        Args:
            step: pixels between neighbouring patches, see `image_tower`.

        Raises:
            TowerError: a tower that is no plain ViT.
        """
        visual = getattr(self.model, "visual", None)
        if visual is None:
            raise TowerError(
                f"{self.name}: a model of transformers cannot be taken apart; load the same weights through "
                "open_clip (patchclip list models)"
            )
        return image_tower(visual, self.head, step)

    def autocast(self) -> torch.autocast:
        """Autocast at this encoder's precision."""
        kind = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype=kind, enabled=kind != torch.float32)


def project_patches(visual: Any, pixels: Tensor) -> Tensor:
    """Patch tokens [b, l, e] of open_clip's own ViT or a timm ViT, pooled one by one and projected."""
    return patches_and_pooled(visual, pixels)[0]


def patches_and_pooled(visual: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """What `project_patches` gives, and the image embedding [b, e] (not normalised) of the same forward."""
    trunk = getattr(visual, "trunk", None)
    if trunk is not None and hasattr(trunk, "num_prefix_tokens"):
        prefix = int(trunk.num_prefix_tokens)
        everything = trunk.forward_features(pixels)
        tokens = everything[:, prefix:]
        pooled = visual.head(trunk.forward_head(alone(tokens, prefix + 1)))
        whole = visual.head(trunk.forward_head(everything))
    elif hasattr(visual, "_embeds"):
        everything = visual.transformer(visual._embeds(pixels))
        tokens = everything[:, 1:]
        pooled = visual._pool(alone(tokens, 2))[0].flatten(1)
        whole = visual._pool(everything)[0].flatten(1)
        if visual.proj is not None:
            pooled, whole = pooled @ visual.proj, whole @ visual.proj
    else:
        raise TowerError(f"{type(trunk or visual).__name__} has no patch tokens: use a ViT tower")
    return pooled.unflatten(0, tokens.shape[:2]), whole


def load(
    name_or_path: str | Path, *, device: str = "auto", precision: str = "fp32", context: str | None = None
) -> ClipEncoder:
    """Loads a CLIP for evaluation.

    Args:
        name_or_path: folder of a run or checkpoint (open_clip_config.json and weights); an open_clip model
            with its weights, `ViT-B-32:openai` or `ViT-B-32:path/to/weights.safetensors`;
            `ViT-B-32:random` for random weights; `hf-hub:org/name` for a model of open_clip on the Hugging
            Face hub, `hf:org/name` for one of transformers; folder that transformers wrote.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        precision: "fp32", or "bf16" / "fp16" for autocast.
        context: how longer captions are read: "long_clip", "clipmd:stride=70"; None cuts them off.

    Returns:
        The encoder, in eval mode.

    Raises:
        ConfigError: unknown model name, or a name without weights.
        CheckpointError: no or unreadable weights, or weights that do not fit.
    """
    from patchclip.models import hugging_face, long_context

    if context is not None:
        return long_context.with_context(load(name_or_path, device=device, precision=precision), context)
    if hugging_face.is_hugging_face(name_or_path):
        encoder = hugging_face.open_hugging_face(name_or_path, precision)
        encoder.model.to(pick_device(device))
        return encoder
    path = Path(name_or_path)
    architecture = open_path(path) if path.exists() else open_name(str(name_or_path))
    architecture.model.to(pick_device(device)).eval()
    head = read_head(checkpoint_folder(path)) if path.exists() else None
    if head is not None:
        head.module.to(pick_device(device))
    return ClipEncoder(architecture, precision, head=None if head is None else head.module)


def open_path(path: Path) -> Architecture:
    """Model of a run or checkpoint folder."""
    if path.is_file():
        raise ConfigError(f"{path} is a weights file: name its architecture too, as in ViT-B-32:{path}")
    folder = checkpoint_folder(path)
    source = f"local-dir:{folder}"
    config = configuration(source)
    with readable(source, None):
        model = open_clip.create_model(source, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(source)
    preprocess_cfg = dict(model.visual.preprocess_cfg)
    return Architecture(str(path), model, tokenizer, config, preprocess_cfg, read_similarity(folder))


def open_name(name: str) -> Architecture:
    """Model by open_clip name and weights, or from the Hugging Face hub."""
    if name.startswith("hf-hub:"):
        return create(name)
    model, _, weights = name.partition(":")
    configuration(model)
    if not weights:
        tags = open_clip.list_pretrained_tags_by_model(model)
        known = ", ".join(f"{model}:{tag}" for tag in tags) or "none published"
        raise ConfigError(
            f"{name} names an architecture without weights. Weights: {known}; "
            f"{model}:path/to/weights.safetensors for a file, {model}:random for random weights"
        )
    return create(model, pretrained=None if weights == "random" else weights)


def pick_device(device: str) -> torch.device:
    """ "auto" as CUDA, then MPS, then the CPU; any other name as torch reads it."""
    if device != "auto":
        try:
            chosen = torch.device(device)
        except RuntimeError as error:
            raise ConfigError(f"device={device!r} must be auto, cpu, cuda, cuda:1 or mps") from error
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"device={device!r}, but torch finds no CUDA GPU here: use auto or cpu")
        return chosen
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
