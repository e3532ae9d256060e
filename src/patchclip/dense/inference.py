"""How an image is read: every setting of a `Segmenter`, checked."""

from dataclasses import dataclass

from patchclip.errors import ConfigError

BLENDS = ("mean", "ramp")
BACKGROUNDS = ("auto", "none", "entropy")

ENTROPY = 1.5
"""Nats above which a pixel has no label. Source: Mukhoti et al., CVPR 2023, arXiv 2212.04994, inference."""


@dataclass(frozen=True)
class Inference:
    """Settings of a `Segmenter`; sizes in pixels, rounded to whole patches.

    Args:
        method: a dense method, NAME or NAME:key=value;key=value ("naclip:std=5"); "auto" is "pacl" for a
            model with a trained head, else "naclip".
        short_side: of the resized image; None for twice the model's image size.
        window: side of the windows; None for the model's image size, 0 for the whole image at once.
        stride: between windows; None for half a window.
        step: between neighbouring patches, a divisor of the patch's side; None for no overlap. A smaller one
            makes the canvas finer and costs its square more.
        blend: how windows are averaged where they overlap: "mean", or "ramp" to weigh their borders less.
        prompts: "pacl7", "tcl9", "openai80", "photo", "plain", or templates with a place "{}" for the name.
        scale: what cosines are multiplied by before the softmax; None for the model's own, exp(logit_scale).
        background: what has no label (0 in the map). "none": nothing. "auto": what a word of the general list
            of stuff describes better than every label. A number in (0, 1): pixels whose best probability is
            below it. "entropy" or "entropy:1.2": pixels whose softmax has more entropy, in nats.
        background_words: words of the background instead of the general list; they compete under every
            `background`. None for the general list where `background` is "auto", for none otherwise.
        keep_labels: only the labels that fit an image best take part in it, this many; None for all.
        refine: a refinement of the scores by the image's colours, NAME or NAME:key=value;key=value.
        batch_size: windows of one forward pass; None to have it chosen by memory.

    Raises:
        ConfigError: a value outside its range.
    """

    method: str = "auto"
    short_side: int | None = None
    window: int | None = None
    stride: int | None = None
    step: int | None = None
    blend: str = "mean"
    prompts: str | tuple[str, ...] = "pacl7"
    scale: float | None = None
    background: str | float = "auto"
    background_words: tuple[str, ...] | None = None
    keep_labels: int | None = None
    refine: str | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("short_side", "stride", "step", "keep_labels", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value} must be at least 1, or None for the default")
        if self.window is not None and self.window < 0:
            raise ConfigError(f"window={self.window} must be pixels, 0 for the whole image or None")
        if self.blend not in BLENDS:
            raise ConfigError(f"blend={self.blend!r} must be one of {', '.join(BLENDS)}")
        if self.scale is not None and not self.scale > 0:
            raise ConfigError(f"scale={self.scale} must be above 0: what cosines are multiplied by")
        background_of(self.background)

    @property
    def words(self) -> tuple[str, ...] | None:
        """Background words for `labels.vocabulary`: None for the general list."""
        return self.background_words if self.background == "auto" else self.background_words or ()

    @property
    def threshold(self) -> float | None:
        """Probability below which a pixel has no label; None for no such rule."""
        return background_of(self.background)[0]

    @property
    def entropy(self) -> float | None:
        """Nats above which a pixel has no label; None for no such rule."""
        return background_of(self.background)[1]


def background_of(background: str | float) -> tuple[float | None, float | None]:
    """The threshold on the probability and the one on the entropy that `background` stands for.

    Raises:
        ConfigError: what is neither a rule nor a number in its range.
    """
    name, _, rest = str(background).partition(":")
    if name in BACKGROUNDS and (not rest or name == "entropy"):
        return None, (number(rest, background) if rest else ENTROPY) if name == "entropy" else None
    value = number(str(background), background)
    if not 0 < value < 1:
        raise ConfigError(
            f"background={background} must be in (0, 1): pixels whose best probability is lower have no label"
        )
    return value, None


def number(text: str, background: str | float) -> float:
    """Raises ConfigError where the text is no number."""
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(
            f"background={background!r} must be auto, none, entropy, entropy:NATS or a number in (0, 1)"
        ) from error
