"""What an embedding depends on, as the names under which embeddings are kept."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from patchclip.models.masked import slot_of

TEXTS = ["a photo of a cat", "Zürich, 3 Äpfel & ½ NAÏVE café's — “ok”?! ::", " ".join(["many words"] * 60)]
"""Texts that tell tokenizers apart: case, accents, punctuation, more words than any context has."""


def changing(encoder: Any) -> bool:
    """Whether the model is not as its weights say: in training mode, or under a mask.

    Embeddings of such a model must not be kept.
    """
    model = getattr(encoder, "model", None)
    if not isinstance(model, nn.Module):
        return True
    slot = slot_of(model)
    return model.training or (slot is not None and slot.active)


def model_key(encoder: Any) -> str:
    """16 hexadecimal digits of everything in the encoder that an embedding depends on.

    These are its weights, configuration, precision and kind of device, and its similarity where that is not
    the cosine; and what its preprocessing makes of a small picture and its tokenizer of a few texts, whatever
    they are made of.
    """
    found = hashlib.sha256()
    for name, tensor in encoder.model.state_dict().items():
        if isinstance(tensor, Tensor):
            _add(found, tensor, name)
    architecture = getattr(encoder, "architecture", None)
    parts: tuple[Any, ...] = (
        getattr(architecture, "model_cfg", None),
        getattr(encoder, "precision", "fp32"),
        encoder.device.type,
    )
    similarity = getattr(encoder, "similarity", None)
    if similarity is not None and similarity.settings():
        parts = (*parts, similarity.settings())
    context = getattr(encoder, "context", None)  # how windows of long texts are pooled: no token tells
    if context is not None:
        parts = (*parts, repr(context))
    found.update(json.dumps(parts, sort_keys=True, default=str).encode())
    _add(found, encoder.preprocess(_picture()), "pixels")
    _add(found, encoder.tokenizer(list(TEXTS)), "tokens")
    return found.hexdigest()[:16]


def images_key(fingerprint: str, view: str, wanted: Sequence[int]) -> str:
    """Name of the rows of some images of a set under a view."""
    which = f"{wanted.start} {wanted.stop}" if isinstance(wanted, range) else repr(list(wanted))
    return "images-" + _digest([fingerprint, view, which])


def texts_key(texts: Sequence[str]) -> str:
    """Name of the rows of some texts."""
    return "texts-" + _digest(texts)


def prompts_key(prompts: Sequence[Sequence[str]]) -> str:
    """Name of the mean rows of the prompts of some classes."""
    return "classes-" + _digest([_digest(each) for each in prompts])


def _add(found: Any, tensor: Tensor, name: str) -> None:
    plain = tensor.detach().cpu().contiguous()
    found.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
    found.update(plain.reshape(-1).view(torch.uint8).numpy().data)


def _digest(parts: Sequence[str]) -> str:
    """Of the parts and of where one ends and the next begins."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()[:24]


def _picture() -> Image.Image:
    """Colours that vary along both sides of a picture that is no square."""
    across, down = Image.linear_gradient("L").resize((97, 61)), Image.radial_gradient("L").resize((97, 61))
    return Image.merge("RGB", (across, down, across.transpose(Image.Transpose.ROTATE_180)))
