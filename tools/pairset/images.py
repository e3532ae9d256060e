"""Draw, trim and judge images."""

from __future__ import annotations

import io
import os

import numpy as np
import resvg_py
from PIL import Image

FONTS = "DejaVu Sans"


def svg(text: str, side: int, fonts: str) -> Image.Image | None:
    """Draw an SVG ``side`` pixels wide with the fonts of one folder; None when it cannot be drawn."""
    try:
        data = resvg_py.svg_to_bytes(
            svg_string=text,
            width=side,
            dpi=96,
            skip_system_fonts=True,
            font_files=sorted(os.path.join(fonts, name) for name in os.listdir(fonts)),
            font_family=FONTS,
            serif_family="DejaVu Serif",
            sans_serif_family=FONTS,
            monospace_family="DejaVu Sans Mono",
        )
    except BaseException as error:  # resvg panics on a few broken files; a panic is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return None
    image = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
    return None if image.height > 8 * image.width else image


def trim(image: Image.Image, side: int, pad: float = 0.04) -> Image.Image | None:
    """Crop to the opaque part and fit it in ``side`` x ``side``; None when there is nothing to see."""
    image = image.convert("RGBA")
    ys, xs = np.where(np.asarray(image)[..., 3] > 8)
    if len(xs) < 40:
        return None
    image = image.crop((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    scale = side * (1 - 2 * pad) / max(image.size)
    if scale < 1 or max(image.size) < side // 2:
        scale = min(scale, 2.0)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    border = max(2, round(max(image.size) * pad))
    w, h = image.width + 2 * border, image.height + 2 * border
    if max(w, h) > 3 * min(w, h):  # no slivers
        w, h = max(w, max(w, h) // 3), max(h, max(w, h) // 3)
    out = Image.new("RGBA", (w, h), (255, 255, 255, 0))
    out.paste(image, ((w - image.width) // 2, (h - image.height) // 2))
    return out


def flatten(image: Image.Image) -> Image.Image:
    """Lay an image on white."""
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def blank(image: Image.Image) -> bool:
    """Tell whether next to nothing would be seen on white."""
    grey = np.asarray(flatten(image).convert("L"), dtype=np.float32)
    return bool(grey.std() < 6 or (np.abs(grey - np.median(grey)) > 12).mean() < 0.01)


def fit(image: Image.Image, side: int) -> Image.Image:
    """Scale an opaque picture down so that its long side is at most ``side``."""
    image = image.convert("RGB")
    scale = min(1.0, side / max(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def tones(path: str) -> int:
    """Count the colours (5 bits a channel) of the opaque part: drawings have few, photographs many."""
    image = Image.open(path).convert("RGBA")
    image.thumbnail((200, 200))
    pixels = np.asarray(image).reshape(-1, 4)
    colours = (pixels[pixels[:, 3] > 200][:, :3] >> 3).astype(np.int32)
    return len(np.unique(colours[:, 0] * 1024 + colours[:, 1] * 32 + colours[:, 2]))
