"""`patchclip masks`: strategies side by side on a few images, drawn and measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from patchclip import registry
from patchclip.contracts import Resizing
from patchclip.data.scenes import Scene, read_scenes
from patchclip.errors import ConfigError
from patchclip.evaluation.mask_view import View, model_view, plain_view
from patchclip.evaluation.strategies import Comparison, Strategy, compare, guide_of, parse
from patchclip.report import sheet

MISSING = "-"
SIZE, PATCH = 224, 16


@dataclass(frozen=True)
class SheetSettings:
    """What to draw.

    Args:
        strategies: `all`, or a comma list of NAME or NAME:key=value;key=value.
        ratio: share of patches dropped, in [0, 1).
        compare: measure as well as draw.
        model: run folder, checkpoint, or open_clip NAME:TAG, whose preprocessing, grid and tokens are used;
            None shows the start of training from pixels alone.
        progress: of training, in [0, 1]; None is 1 with a model and 0 without.
        seed: of the masks.
        text: what a text-guided strategy looks for.
        size: side of the square crop in pixels, only without a model; None is 224.
        patch: side of a patch in pixels, only without a model; None is 16.
        masks: foreground of each image; none looks beside the images and in their alpha channels.
    """

    strategies: str = "all"
    ratio: float = 0.5
    compare: bool = False
    model: str | None = None
    progress: float | None = None
    seed: int = 0
    text: str | None = None
    size: int | None = None
    patch: int | None = None
    masks: tuple[str | Path, ...] = ()


@dataclass(frozen=True)
class MaskSheet:
    """A drawn sheet and what it is made of.

    Args:
        picture: RGB.
        names: of the images.
        strategies: in order of the columns.
        keep: for each strategy the kept patches [b, k].
        left_out: (name, reason) of the strategies that `all` had to leave out.
        comparison: the figures, None unless asked for.
        settings: with the progress that was used.
    """

    picture: Image.Image
    names: tuple[str, ...]
    strategies: tuple[Strategy, ...]
    keep: tuple[Tensor, ...]
    left_out: tuple[tuple[str, str], ...]
    comparison: Comparison | None
    settings: SheetSettings

    def save(self, path: str | Path) -> Path:
        """Writes the picture in the format of its suffix: .png, .webp or .jpg."""
        return sheet.save_sheet(self.picture, path)

    def to_json(self) -> dict[str, Any]:
        """The sheet as plain values; what is not known is null."""
        found: dict[str, Any] = {
            "images": list(self.names),
            "ratio": self.settings.ratio,
            "progress": self.settings.progress,
            "model": self.settings.model,
            "strategies": [
                {"name": s.name, "options": dict(s.options), "kept": keep.shape[1]}
                for s, keep in zip(self.strategies, self.keep, strict=True)
            ],
            "left_out": dict(self.left_out),
        }
        figures = self.comparison
        if figures is not None:
            for i, row in enumerate(found["strategies"]):
                row["foreground_kept"] = _means(figures.foreground[i])
                row["edges_kept"] = _means(figures.energy[i])
                row["entropy_bits"] = _means(figures.entropy[i])
                row["overlap"] = _value(figures.mean_overlap[i])
                row["milliseconds"] = _value(figures.milliseconds[i])
            found["overlap"] = [[_value(cell) for cell in row] for row in figures.overlap]
        return found


def mask_sheet(images: Sequence[str | Path], **settings: Any) -> MaskSheet:
    """Shows what each masking strategy keeps of some images.

    Example: `patchclip.mask_sheet(["cat.jpg"], strategies="random,pgs", compare=True).save("masks.png")`.

    Args:
        images: files, 1 to 64.
        **settings: fields of `SheetSettings`.

    Returns:
        The sheet; with `compare=True` its figures.

    Raises:
        ConfigError: a setting that is unknown or outside its range.
        DataError: an image or mask that cannot be used.
        TowerError: a model that cannot drop patches.
    """
    known = [field.name for field in fields(SheetSettings)]
    for name in settings:
        if name not in known:
            raise ConfigError(f"mask_sheet has no setting {name!r}; {registry.closest(name, known)}")
    chosen = SheetSettings(**settings)
    scenes = read_scenes(images, chosen.masks)
    view = open_view(scenes, chosen)
    strategies, left_out = parse(chosen.strategies, chosen.ratio, guide_of(view.encoder, chosen.text))
    keep = [strategy.keep(view, chosen.seed) for strategy in strategies]
    figures = compare(strategies, view, chosen.seed) if chosen.compare else None
    columns = strategy_columns(view, strategies, keep)
    shares = [kept.shape[1] / view.patches for kept in keep]
    lines = [] if figures is None else figure_lines(figures, shares)
    picture = sheet.draw_sheet(columns, lines, _caption(view, chosen))
    names = tuple(scene.name for scene in scenes)
    used = replace(chosen, progress=view.progress)
    return MaskSheet(picture, names, tuple(strategies), tuple(keep), tuple(left_out), figures, used)


def open_view(scenes: Sequence[Scene], settings: SheetSettings) -> View:
    """The images as the model receives them, or from pixels alone without one."""
    if settings.model is None:
        if settings.progress:
            raise ConfigError(
                f"progress={settings.progress:g} needs a model, since masks read its tokens once training "
                "has begun: give one (--model), or leave progress at 0"
            )
        return plain_view(scenes, settings.size or SIZE, settings.patch or PATCH)
    for name in ("size", "patch"):
        if getattr(settings, name) is not None:
            raise ConfigError(
                f"{name}={getattr(settings, name)} is the model's own: leave it out with --model"
            )
    from patchclip.models.towers import load

    return model_view(scenes, load(settings.model), 1.0 if settings.progress is None else settings.progress)


def strategy_columns(
    view: View, strategies: Sequence[Strategy], keep: Sequence[Tensor]
) -> list[sheet.Column]:
    """The images, then what each strategy leaves of them."""
    size = sheet.cell_size(len(strategies) + 1, view.grid)
    images = [sheet.enlarged(picture, size) for picture in view.pictures]
    columns = [sheet.Column("image", images)]
    for strategy, kept in zip(strategies, keep, strict=True):
        if isinstance(strategy.masker, Resizing):
            small = strategy.masker.resized(view.grid, view.progress)
            pictures = [sheet.shrunk(picture, small, view.grid, size) for picture in view.pictures]
            note = ", ".join(filter(None, [strategy.note, f"{small[1]} x {small[0]} patches, enlarged"]))
        else:
            pictures = [sheet.faded(i, k, view.grid) for i, k in zip(images, kept, strict=True)]
            note = strategy.note
        columns.append(sheet.Column(strategy.name, pictures, note))
    return columns


def figure_lines(figures: Comparison, kept: Sequence[float]) -> list[sheet.Line]:
    """The figures as lines below the columns; a line that knows nothing is left out.

    Args:
        figures: of the strategies.
        kept: share of the patches that each keeps; ticks are what a mask would score that knows nothing.
    """
    chance = [
        _mean_of([a * b / (a + b - a * b) for j, b in enumerate(kept) if j != i]) for i, a in enumerate(kept)
    ]
    lines = [
        _share_line("foreground kept", "share of the object's area", figures.foreground.nanmean(dim=1), kept),
        _share_line("edge energy kept", "share of all Sobel edges", figures.energy.nanmean(dim=1), kept),
        _share_line("overlap", "with the others (Jaccard)", figures.mean_overlap, chance),
    ]
    entropy = figures.entropy.mean(dim=1).tolist()
    bits = [f"{value:.2f} bit" for value in entropy]
    lines.insert(2, sheet.Line("entropy", "0 always the same, 1 a coin", bits, entropy))
    times = [f"{value:.{0 if value >= 10 else 2}f} ms" for value in figures.milliseconds.tolist()]
    lines.append(sheet.Line("time", "of selection, an image", times))
    return [line for line in lines if any(value != MISSING for value in line.values)]


def _share_line(label: str, note: str, values: Tensor, marks: Sequence[float]) -> sheet.Line:
    texts = [MISSING if math.isnan(value) else f"{value:.0%}" for value in values.tolist()]
    return sheet.Line(label, note, texts, values.tolist(), marks)


def _mean_of(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _caption(view: View, settings: SheetSettings) -> str:
    """How the sheet came about, in one line."""
    rows, columns = view.grid
    height, width = view.pictures.shape[1:3]
    model = f"model {settings.model}" if settings.model else "no model: start of training, pixels alone"
    marks = ". Ticks: a mask that knows nothing" if settings.compare else ""
    return (
        f"{width} x {height} px, {columns} x {rows} patches, {settings.ratio:.0%} dropped, "
        f"progress {view.progress:g}, seed {settings.seed}, {model}{marks}"
    )


def _means(values: Tensor) -> dict[str, Any]:
    return {"mean": _value(values.nanmean()), "images": [_value(value) for value in values]}


def _value(value: Tensor) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)
