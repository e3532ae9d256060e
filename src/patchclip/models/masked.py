"""Where patches are dropped: puts a slot between the patch embedding and the first block of a ViT tower.

open_clip's own ViT has `patch_dropout` there, timm's have `patch_drop`; the slot takes that place, so no
tower is forked and no weight is added (`state_dict` is unchanged, and so are checkpoints). In eval mode, and
for a masker that keeps everything, tokens pass untouched.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from patchclip.contracts import Encoder, Masker
from patchclip.errors import TowerError
from patchclip.models.slot import Layout, MaskSlot, hash_seed

__all__ = ["MaskSlot", "Seat", "attach", "find_seat", "hash_seed", "masked", "preview", "slot_of"]


@dataclass(frozen=True)
class Seat:
    """Where a tower drops tokens: it calls `owner.name` between the patch embedding and the first block.

    `transformer` is open_clip's own, which takes an attention bias, or None.
    """

    owner: nn.Module
    name: str
    embedding: nn.Module
    layout: Layout
    transformer: nn.Module | None = None

    def place(self, module: nn.Module | None) -> None:
        """Puts `module` there; a slot sees the pixels from now on, an earlier one no longer."""
        for hooked in (self.embedding, self.transformer):
            for hooks in () if hooked is None else (hooked._forward_pre_hooks, hooked._forward_hooks):
                for key in [k for k, hook in hooks.items() if owned_by_slot(hook)]:
                    del hooks[key]
        if isinstance(module, MaskSlot):
            self.embedding.register_forward_pre_hook(module.see)
            if not self.layout.dynamic:
                self.embedding.register_forward_hook(module.hold)
            if self.transformer is not None and hasattr(module.masker, "last_bias"):
                self.transformer.register_forward_pre_hook(module.add_bias, with_kwargs=True)
        elif module is None:
            delattr(self.owner, self.name)
        setattr(self.owner, self.name, module)


def owned_by_slot(hook: object) -> bool:
    """Whether a hook is a method of a slot."""
    return isinstance(getattr(hook, "__self__", None), MaskSlot)


def find_seat(model: nn.Module) -> Seat:
    """The place of the slot in an open_clip model. Raises TowerError if its tower cannot drop tokens."""
    visual = getattr(model, "visual", None)
    if visual is None:
        raise TowerError(f"{type(model).__name__} has no image tower `visual`: pass an open_clip model")
    trunk = getattr(visual, "trunk", visual)
    if hasattr(visual, "patch_dropout"):
        layout = Layout(1, patch_size(visual, visual.conv1), grid_size(visual))
        return Seat(visual, "patch_dropout", visual.conv1, layout, visual.transformer)
    if (
        hasattr(trunk, "patch_drop")
        and hasattr(trunk, "num_prefix_tokens")
        and type(trunk).__name__ != "NaFlexVit"
    ):
        embedding = trunk.patch_embed
        layout = Layout(
            prefix=trunk.num_prefix_tokens,
            patch=patch_size(visual, embedding),
            grid=grid_size(embedding),
            with_indices=type(trunk).__name__ == "Eva",
            dynamic=bool(getattr(trunk, "dynamic_img_size", False)),
        )
        return Seat(trunk, "patch_drop", embedding, layout)
    raise cannot_drop(trunk)


def attach(model: nn.Module, masker: Masker) -> MaskSlot:
    """Puts `masker` into the image tower of an open_clip model, replacing any earlier one.

    With a slot the tower also takes images smaller than its own, with resized position embeddings.

    Args:
        model: what `open_clip.create_model` returns, with a ViT image tower: open_clip's own or timm's
            (ViT, SigLIP, EVA02, PE); a deep copy of the model gets its own slot.
        masker: the strategy; `NoMask` makes the forward equal to the plain tower's.

    Returns:
        The slot, to set `progress` and `seed` on.

    Raises:
        TowerError: the tower cannot drop tokens (convolutional and windowed towers), or the masker biases
            attention and the tower is not open_clip's own ViT.
    """
    seat = find_seat(model)
    if hasattr(masker, "last_bias") and seat.transformer is None:
        raise TowerError(
            f"{type(masker).__name__} biases attention, which only open_clip's own ViT takes (ViT-B-16 ...), "
            f"not {type(seat.owner).__name__}"
        )
    slot = MaskSlot(masker, seat.layout)
    slot.train(model.training)
    seat.place(slot)
    return slot


@contextlib.contextmanager
def masked(model: nn.Module, masker: Masker, progress: float = 1.0, seed: int = 0) -> Iterator[MaskSlot]:
    """Masks every forward inside the block, in eval mode too; afterwards the model is as it was.

    Args:
        model: an open_clip model with a ViT image tower.
        masker: the strategy.
        progress: of training, in [0, 1].
        seed: of the mask's randomness.
    """
    seat = find_seat(model)
    earlier = getattr(seat.owner, seat.name)
    slot = attach(model, masker)
    slot.progress, slot.seed, slot.always = progress, (seed,), True
    try:
        yield slot
    finally:
        seat.place(earlier)


def cannot_drop(tower: nn.Module) -> TowerError:
    """The error for a tower whose blocks need every token."""
    return TowerError(
        f"{type(tower).__name__} cannot drop tokens: masking needs a ViT tower (ViT-B-16, ViT-B-16-SigLIP, "
        "EVA02-B-16, PE-Core-B-16 ...); use masking.name=none for this one"
    )


def patch_size(visual: nn.Module, embedding: nn.Module) -> tuple[int, int] | None:
    """(height, width) of a patch in pixels, if the tower says."""
    size = getattr(visual, "patch_size", None) or getattr(embedding, "patch_size", None)
    return None if size is None else (int(size[0]), int(size[1]))


def grid_size(module: Any) -> tuple[int, int] | None:
    """Rows and columns of patches, if the module says."""
    size = getattr(module, "grid_size", None)
    return None if size is None else (int(size[0]), int(size[1]))


def slot_of(model: nn.Module) -> MaskSlot | None:
    """The slot attached to `model`, if any."""
    return next((m for m in model.modules() if isinstance(m, MaskSlot)), None)


@torch.no_grad()
def preview(
    encoder: Encoder,
    masker: Masker,
    pixels: Float[Tensor, "b 3 h w"],
    progress: float = 1.0,
    seed: int = 0,
) -> Int64[Tensor, "b k"]:
    """Which patches training at `progress` would keep of these images, with the encoder's own tokens.

    Args:
        encoder: from `patchclip.load`.
        masker: the strategy to look at.
        pixels: preprocessed images, float32.
        progress: of training, in [0, 1].
        seed: of the mask's randomness.

    Returns:
        Ascending patch indices on `encoder.grid`; all patches for a masker that drops none. The model is left
        as it was.
    """
    model = encoder.model  # type: ignore[attr-defined]
    training = model.training
    try:
        with masked(model.eval(), masker, progress, seed) as slot:
            model.visual(pixels.to(encoder.device))
            keep = slot.keep
    finally:
        model.train(training)
    if keep is None:
        gh, gw = encoder.grid  # type: ignore[attr-defined]
        return torch.arange(gh * gw).expand(len(pixels), -1)
    return keep.cpu()
