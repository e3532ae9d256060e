"""A heat map over a picture, with the best place and a box, and what was looked for below."""

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw, ImageFont

from patchclip.dense._legend import INK, PAPER, SOFT, fitting, letters_for, text_size
from patchclip.dense.overlay import Scale, enlarged_rows
from patchclip.dense.palette import heat_palette

BLEND = 0.62
"""Share of the heat's colour; the rest is the picture's lightness."""


def draw_pointing(
    image: Image.Image,
    heat: Float32[np.ndarray, "h w"],
    point: tuple[float, float],
    box: tuple[int, int, int, int],
    said: tuple[str, float],
) -> Image.Image:
    """Draws heat, box and point; pictures below 512 pixels are enlarged.

    Args:
        image: RGB.
        heat: in [0, 1], of the picture's size.
        point: (x, y) in pixels.
        box: (x0, y0, x1, y1) in pixels, x1 and y1 exclusive.
        said: the phrase and its score.
    """
    scale = Scale.of(heat.shape)  # type: ignore[arg-type]
    drawn, layers = Image.new("RGB", scale.drawn), (image.convert("L"), Image.fromarray(heat))
    for start, stop in scale.strips():
        drawn.paste(_strip(layers, scale, (start, stop)), (0, start * scale.enlarged))
    size = text_size(drawn.size)
    draw, width = ImageDraw.Draw(drawn), max(2, round(size / 6))
    x0, y0, x1, y1 = (value * scale.enlarged for value in box)
    frame = (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1))
    draw.rectangle(frame, outline=INK, width=width + 2)
    inner = (x0 + 1, y0 + 1, max(x0 + 1, x1 - 2), max(y0 + 1, y1 - 2))
    draw.rectangle(inner, outline="white", width=width)
    x, y = (value * scale.enlarged for value in point)
    for radius, colour in ((0.55 * size, INK), (0.45 * size, "white"), (0.28 * size, INK)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return _with_foot(drawn, said, size)


def _strip(layers: tuple[Image.Image, Image.Image], scale: Scale, rows: tuple[int, int]) -> Image.Image:
    """Some rows of the picture in grey under the heat's colours."""
    grey, warm = (np.asarray(enlarged_rows(layer, scale, rows)) for layer in layers)
    colours = heat_palette().astype(np.float32)[(255 * warm).clip(0, 255).round().astype(np.uint8)]
    seen = BLEND * colours + (1 - BLEND) * grey[..., None].astype(np.float32)
    return Image.fromarray(seen.round().astype(np.uint8))


def _with_foot(picture: Image.Image, said: tuple[str, float], size: int) -> Image.Image:
    """The picture above the phrase, its score and the scale of the colours."""
    phrase, score = said
    page = Image.new("RGB", (max(picture.width, 16 * size), picture.height + round(2.4 * size)), PAPER)
    page.paste(picture)
    draw, plain = ImageDraw.Draw(page), ImageFont.load_default(size)
    font = letters_for(phrase, size)
    middle, right = picture.height + round(1.2 * size), page.width - size // 2
    bar = heat_palette()[None].repeat(max(1, round(0.7 * size)), axis=0)
    strip = Image.fromarray(bar).resize((4 * size, bar.shape[0]), Image.Resampling.BILINEAR)
    right -= round(draw.textlength("1", plain))
    draw.text((right, middle), "1", SOFT, plain, anchor="lm")
    right -= round(4.4 * size)
    page.paste(strip, (right, middle - bar.shape[0] // 2))
    right -= round(0.4 * size)
    draw.text((right, middle), "0", SOFT, plain, anchor="rm")
    right -= round(1.6 * size)
    text = f"score {score:.2f}"
    draw.text((right, middle), text, SOFT, plain, anchor="rm")
    room = right - draw.textlength(text, plain) - 1.5 * size
    draw.text((size // 2, middle), fitting(draw, phrase, font, room), INK, font, anchor="lm")
    return page
