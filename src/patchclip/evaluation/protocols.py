"""How the field measures segmentation: sizes, windows, prompts and background rules by name.

A preset holds what a published evaluation fixed beside the model, the method and the class names (these are
the data set's, see data/layouts). Sizes in pixels are rounded to whole patches of the model at hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from patchclip.data.sets import Segmented
from patchclip.dense.inference import Inference
from patchclip.errors import ConfigError
from patchclip.registry import closest

SCLIP = (
    "Wang, Mei and Yuille, SCLIP, ECCV 2024, arXiv:2312.01597, released configs (mmsegmentation); copied by "
    "NACLIP (Hajimiri et al., WACV 2025, arXiv:2404.08181) and ResCLIP (Yang et al., CVPR 2025, "
    "arXiv:2411.15851)"
)
NACLIP = "Hajimiri, Ben Ayed and Dolz, NACLIP, WACV 2025, arXiv:2404.08181, released configs"
CLEARCLIP = "Lan et al., ClearCLIP, ECCV 2024, arXiv:2407.12442, released configs"
TCL = (
    "Cha, Mun and Roh, TCL, CVPR 2023, arXiv:2212.00785, released configs, after GroupViT (Xu et al., CVPR "
    "2022, arXiv:2202.11094)"
)
PACL = "Mukhoti et al., PACL, CVPR 2023, arXiv:2212.04994, inference and appendix A.2.2"


@dataclass(frozen=True)
class Protocol:
    """One way to measure.

    Attributes:
        name: of the preset.
        source: where its numbers come from.
        short_side: of the image as it is seen, in pixels; None for the segmenter's own choice.
        window: side of a window; 0 for the whole image, None for the segmenter's own choice.
        stride: between windows; None for the segmenter's own choice.
        step: pixels between patches; None for the size of a patch.
        prompts: name of the templates that a class name is put into (dense/labels).
        scale: what cosines are multiplied by before the softmax over all names; None for the model's own.
        threshold: on sets with a background, a pixel whose most likely name has a lower probability is it.
        entropy: the same, where the entropy of the probabilities (nats) is higher.
        names: asked for as the background in place of the set's own; empty to ask for none.
    """

    name: str
    source: str
    short_side: int | None = None
    window: int | None = None
    stride: int | None = None
    step: int | None = None
    prompts: str = "openai80"
    scale: float | None = None
    threshold: float | None = None
    entropy: float | None = None
    names: tuple[str, ...] | None = None

    def inference(self, benchmark: Segmented) -> Inference:
        """The settings of a `Segmenter` for a set, whose background it knows.

        A set without a background has no rule for it. Where neither the preset nor the set says what the
        background is, words for stuff stand for it.
        """
        background: str | float = "none"
        words: tuple[str, ...] | None = ()
        if benchmark.background is not None:
            own = benchmark.synonyms[benchmark.background]
            words = own if self.names is None else self.names
            background = "none" if self.threshold is None else self.threshold
            background = background if self.entropy is None else f"entropy:{self.entropy}"
            if self == DEFAULT:
                background, words = "auto", own if len(own) > 1 else None
        return Inference(
            **{name: getattr(self, name) for name in ("short_side", "window", "stride", "step", "prompts")},
            scale=self.scale,
            background=background,
            background_words=words,
        )


DEFAULT = Protocol(
    "default", "patchclip: sizes in units of those that the model was trained at", prompts="pacl7"
)
"""For sets without a preset of their own."""


def _presets() -> Iterator[Protocol]:
    """Every preset; those of a set's own name are the field's common harness, SCLIP's."""
    yield DEFAULT
    sclip = Protocol("", SCLIP, 336, 224, 112, scale=40.0)
    yield replace(sclip, name="voc21", scale=65.0, threshold=0.1)
    yield replace(sclip, name="voc20")
    yield replace(sclip, name="context60", scale=50.0, threshold=0.1)
    yield replace(sclip, name="context59")
    yield replace(sclip, name="coco_object", scale=50.0, threshold=0.1)
    yield replace(sclip, name="coco_stuff", short_side=448)
    yield replace(sclip, name="cityscapes", short_side=560)
    yield replace(sclip, name="ade20k")
    naclip = replace(sclip, source=NACLIP)
    yield replace(naclip, name="naclip_voc21", window=0, threshold=0.1)
    yield replace(naclip, name="naclip_voc20", window=0)
    yield replace(naclip, name="naclip_context60", threshold=0.1)
    yield replace(naclip, name="naclip_coco_object", threshold=0.1)
    yield replace(naclip, name="naclip_coco_stuff")
    clearclip = Protocol("clearclip", CLEARCLIP, 448, 448, 224, scale=50.0)
    yield clearclip
    yield replace(clearclip, name="clearclip_voc21", threshold=0.5, names=("background",))
    yield replace(clearclip, name="clearclip_context60", threshold=0.15)
    yield replace(clearclip, name="clearclip_coco_object", threshold=0.4)
    yield replace(clearclip, name="clearclip_cityscapes", window=224)
    yield Protocol("tcl", TCL, 448, 448, 224, prompts="tcl9", threshold=0.5, names=())
    yield Protocol("pacl", PACL, step=4, prompts="pacl7", entropy=1.5, names=())


PRESETS: dict[str, Protocol] = {each.name: each for each in _presets()}
"""By name."""


def preset(name: str) -> Protocol:
    """A preset by its name.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in PRESETS:
        raise ConfigError(f"protocol={name!r} is no preset; {closest(name, PRESETS)}")
    return PRESETS[name]
