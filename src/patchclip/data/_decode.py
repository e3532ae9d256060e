"""Turns the bytes of an image file into an RGB picture, or says why it cannot be used."""

import io
import warnings

from PIL import Image

IMAGE_EXTENSIONS = ("webp", "png", "jpg", "jpeg", "bmp", "gif")

_SIGNS = {
    b"RIFF": ("WEBP",),
    b"\xff\xd8": ("JPEG",),
    b"\x89PNG": ("PNG",),
    b"GIF8": ("GIF",),
}


class UnusableError(Exception):
    """A sample that cannot be used; sources turn it into a BadSample with this message as the reason."""


def decode_image(data: bytes) -> Image.Image:
    """Decodes one image to RGB with every pixel loaded.

    As open_clip's loaders do: `convert("RGB")` without laying transparency on a background, the first frame
    of an animation, and no rotation by the EXIF orientation. A file cut short is an error, never a grey area.

    Args:
        data: The whole image file.

    Returns:
        A picture of mode RGB.

    Raises:
        UnusableError: The bytes are no image, are damaged or cut, or decode to more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    if not data:
        raise UnusableError("the image file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=_formats(data))
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")
        except Exception as error:  # Pillow's plugins raise many types on damaged files
            raise UnusableError(f"the image cannot be decoded: {_first_line(error)}") from error


def _formats(data: bytes) -> tuple[str, ...] | None:
    """The format that the first bytes announce, so that Pillow need not try all; None for rarer ones."""
    return next((names for sign, names in _SIGNS.items() if data.startswith(sign)), None)


def _first_line(error: Exception) -> str:
    """The type and the first line of a message, without addresses that change between runs."""
    message = (str(error).splitlines() or [""])[0].split(" <_io.BytesIO")[0]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def describe(error: Exception) -> str:
    """Why the image of a sample cannot be used, in words."""
    return "the image file does not exist" if isinstance(error, FileNotFoundError) else str(error)
