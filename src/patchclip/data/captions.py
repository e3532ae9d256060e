"""Cleans captions and chooses the one that is shown with an image in an epoch."""

from collections.abc import Callable, Iterable, Sequence

from patchclip.errors import ConfigError


def clean(text: str) -> str:
    """Strips a caption, joins runs of white space by one space and drops characters UTF-8 cannot carry."""
    return " ".join(text.encode("utf-8", "ignore").decode("utf-8").split())


def cleaned(texts: Iterable[str]) -> tuple[str, ...]:
    """The captions that are not empty, cleaned, in their order."""
    return tuple(caption for caption in map(clean, texts) if caption)


def _random(captions: Sequence[str], draw: int) -> str:
    return captions[draw % len(captions)]


def _first(captions: Sequence[str], draw: int) -> str:
    return captions[0]


_MODES: dict[str, Callable[[Sequence[str], int], str]] = {"random": _random, "first": _first}


def check_mode(mode: str) -> None:
    """Raises ConfigError unless `mode` is a way to choose captions."""
    if mode not in _MODES:
        raise ConfigError(f"caption={mode!r} must be one of {', '.join(_MODES)}: how one caption is chosen")


def choose(captions: Sequence[str], mode: str, draw: int) -> str:
    """Chooses one caption: `captions[draw mod len(captions)]` ("random") or `captions[0]` ("first").

    Args:
        captions: The captions of one image, at least one.
        mode: "random" or "first".
        draw: A uniform integer >= 0 below 2**64, drawn from (seed, epoch, index); its bias is below 2**-40
            for up to 2**24 captions.

    Raises:
        ConfigError: `mode` is unknown.
        ValueError: `captions` is empty.
    """
    check_mode(mode)
    if not captions:
        raise ValueError("captions must hold at least one caption, got none")
    return _MODES[mode](captions, draw)
