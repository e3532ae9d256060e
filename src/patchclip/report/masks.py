"""Pictures of masks: the image as the model receives it, and beside it the patches that the mask keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from patchclip.contracts import Masker
from patchclip.data.transforms import denormalise
from patchclip.models.masked import preview
from patchclip.models.towers import ClipEncoder

SIDE = 224
DROPPED_ALPHA = 36


@dataclass(frozen=True)
class MaskPicture:
    """An image (RGB), the same with dropped patches all but transparent (RGBA), and the share kept."""

    original: Image.Image
    kept: Image.Image
    share: float


def mask_pictures(
    encoder: ClipEncoder, masker: Masker, images: Sequence[Image.Image], progress: float = 1.0, seed: int = 0
) -> list[MaskPicture]:
    """Shows which patches of each image a masker keeps.

    Args:
        encoder: its preprocessing, tokens and grid are used.
        masker: the strategy.
        images: any size; drawn as the encoder crops them.
        progress: of training, in [0, 1].
        seed: of the mask's randomness.

    Returns:
        One entry an image; empty for no images.
    """
    if not images:
        return []
    pixels = torch.stack([encoder.preprocess(image) for image in images])
    keep = preview(encoder, masker, pixels, progress, seed)
    cfg = encoder.architecture.preprocess_cfg
    shown = denormalise(pixels, mean=tuple(cfg["mean"]), std=tuple(cfg["std"])).cpu()
    rows = zip(shown, keep.cpu(), strict=True)
    return [draw_mask(picture, indices, encoder.grid) for picture, indices in rows]


def draw_mask(
    picture: UInt8[Tensor, "h w 3"], keep: Int64[Tensor, "k"], grid: tuple[int, int]
) -> MaskPicture:
    """Enlarges a picture to about SIDE pixels and makes its dropped patches all but transparent.

    The page shines through, so that the same file fits a light and a dark page.

    Args:
        picture: what the model saw; the border outside whole patches is cut off.
        keep: indices of the kept patches, row by row.
        grid: rows and columns of patches.

    Returns:
        Both pictures, of the same size, and k / l.
    """
    gh, gw = grid
    height, width = picture.shape[0] // gh * gh, picture.shape[1] // gw * gw
    cell = -(-SIDE // max(gh, gw))
    original = Image.fromarray(picture[:height, :width].numpy()).resize(
        (gw * cell, gh * cell), Image.Resampling.BICUBIC
    )
    alpha = np.full(gh * gw, DROPPED_ALPHA, dtype=np.uint8)
    alpha[keep.numpy()] = 255
    kept = original.convert("RGBA")
    kept.putalpha(Image.fromarray(np.kron(alpha.reshape(gh, gw), np.ones((cell, cell), dtype=np.uint8))))
    return MaskPicture(original, kept, len(keep) / (gh * gw))
