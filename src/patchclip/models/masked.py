"""Where patches are dropped: a slot between the patch embedding and the first block of a ViT tower.

open_clip's own ViT has `patch_dropout` there, timm's have `patch_drop`; the slot takes that place, so no
tower is forked and no weight is added (`state_dict` is unchanged, and so are checkpoints). The pixels reach
the slot by a hook on the patch embedding. In eval mode, and for a masker that keeps everything, tokens pass
untouched.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from patchclip.contracts import Encoder, Masker
from patchclip.errors import TowerError


class MaskSlot(nn.Module):
    """Asks the masker which patches are kept and gathers them.

    Before each training forward the engine sets `progress` and `seed` (all randomness of the mask comes from
    it), or `replay` to use the patches of an earlier pass again. Afterwards `keep` holds the indices.

    Args:
        masker: the strategy.
        prefix: tokens before the patches (class and register tokens), always kept.
        patch: (height, width) of a patch in pixels, or None if the tower does not say.
        with_indices: the tower expects `(tokens, indices)` because it rotates kept positions (EVA).
    """

    def __init__(
        self, masker: Masker, prefix: int, patch: tuple[int, int] | None, with_indices: bool = False
    ) -> None:
        super().__init__()
        self.masker = masker
        self.prefix, self.patch, self.with_indices = prefix, patch, with_indices
        self.progress: float = 0.0
        self.seed: tuple[int, ...] = (0,)
        self.replay: Tensor | None = None
        self.keep: Tensor | None = None
        self.enabled = True
        self._pixels: Tensor | None = None
        self._dropped = 0.0

    def see(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Forward-pre-hook of the patch embedding: remembers the pixels of a training forward."""
        if self.training and self.enabled:
            self._pixels = args[0].detach()

    @property
    def mask_ratio(self) -> float:
        """Share of the patches that the last forward dropped."""
        return self._dropped

    def masks(self, patches: int) -> bool:
        """Whether the next forward would drop any of `patches`."""
        return self.training and self.enabled and self.masker.kept(patches, self.progress) < patches

    def forward(self, x: Tensor) -> Any:
        """Tokens [b, prefix + l, d] in, [b, prefix + k, d] out (with the indices for towers that ask)."""
        keep = self.choose(x)
        if keep is not None:
            index = keep.unsqueeze(-1).expand(-1, -1, x.shape[-1])
            x = torch.cat([x[:, : self.prefix], x[:, self.prefix :].gather(1, index)], dim=1)
        return (x, keep) if self.with_indices else x

    @torch.compiler.disable
    @torch.no_grad()
    def choose(self, x: Tensor) -> Tensor | None:
        """Indices [b, k] of the patches kept, or None if all are."""
        tokens = x[:, self.prefix :].detach()
        pixels, self._pixels = self._pixels, None
        replay, self.replay = self.replay, None
        self.keep, self._dropped = None, 0.0
        if not self.masks(tokens.shape[1]):
            return None
        if replay is not None:
            self.keep = replay
        elif pixels is None or pixels.ndim != 4:
            raise TowerError(
                "the mask did not see the pixels [b, 3, h, w] of this forward: call attach() again"
            )
        else:
            generator = torch.Generator(tokens.device).manual_seed(hash_seed(self.seed))
            self.keep = self.masker.select(self.whole(pixels), tokens, self.progress, generator)
        self._dropped = 1 - self.keep.shape[1] / tokens.shape[1]
        return self.keep

    def whole(self, pixels: Tensor) -> Tensor:
        """Pixels cropped to whole patches, as the patch embedding sees them."""
        if self.patch is None:
            return pixels
        h, w = (size // p * p for size, p in zip(pixels.shape[-2:], self.patch, strict=True))
        return pixels[..., :h, :w]


def hash_seed(parts: tuple[int, ...]) -> int:
    """One 63-bit seed from several integers (run seed, step, rank, micro-batch), well mixed."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class Seat:
    """Where a tower drops tokens: it calls `owner.name` between the patch embedding and the first block."""

    owner: nn.Module
    name: str
    embedding: nn.Module
    prefix: int
    patch: tuple[int, int] | None
    with_indices: bool

    def place(self, module: nn.Module | None) -> None:
        """Puts `module` there; a slot sees the pixels from now on, an earlier one no longer."""
        hooks = self.embedding._forward_pre_hooks
        for key in [k for k, hook in hooks.items() if isinstance(getattr(hook, "__self__", None), MaskSlot)]:
            del hooks[key]
        if isinstance(module, MaskSlot):
            self.embedding.register_forward_pre_hook(module.see)
        elif module is None:
            delattr(self.owner, self.name)
        setattr(self.owner, self.name, module)


def find_seat(model: nn.Module) -> Seat:
    """The place of the slot in an open_clip model. Raises TowerError if its tower cannot drop tokens."""
    visual = getattr(model, "visual", None)
    if visual is None:
        raise TowerError(f"{type(model).__name__} has no image tower `visual`: pass an open_clip model")
    trunk = getattr(visual, "trunk", visual)
    if hasattr(visual, "patch_dropout"):
        return Seat(visual, "patch_dropout", visual.conv1, 1, patch_size(visual, visual.conv1), False)
    if (
        hasattr(trunk, "patch_drop")
        and hasattr(trunk, "num_prefix_tokens")
        and type(trunk).__name__ != "NaFlexVit"
    ):
        patch, with_indices = patch_size(visual, trunk.patch_embed), type(trunk).__name__ == "Eva"
        return Seat(trunk, "patch_drop", trunk.patch_embed, trunk.num_prefix_tokens, patch, with_indices)
    raise cannot_drop(trunk)


def attach(model: nn.Module, masker: Masker) -> MaskSlot:
    """Puts `masker` into the image tower of an open_clip model, replacing any earlier one.

    Args:
        model: what `open_clip.create_model` returns, with a ViT image tower: open_clip's own or timm's
            (ViT, SigLIP, EVA02, PE); a deep copy of the model gets its own slot.
        masker: the strategy; `NoMask` makes the forward equal to the plain tower's.

    Returns:
        The slot, to set `progress` and `seed` on.

    Raises:
        TowerError: the tower cannot drop tokens (convolutional and windowed towers).
    """
    seat = find_seat(model)
    slot = MaskSlot(masker, seat.prefix, seat.patch, seat.with_indices)
    slot.train(model.training)
    seat.place(slot)
    return slot


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
    seat = find_seat(model)
    training, earlier = model.training, getattr(seat.owner, seat.name)
    slot = attach(model, masker)
    slot.progress, slot.seed = progress, (seed,)
    try:
        model.train()
        model.visual(pixels.to(encoder.device))
        keep = slot.keep
    finally:
        seat.place(earlier)
        model.train(training)
    if keep is None:
        gh, gw = encoder.grid  # type: ignore[attr-defined]
        return torch.arange(gh * gw).expand(len(pixels), -1)
    return keep.cpu()
