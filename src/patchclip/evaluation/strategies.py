"""Masking strategies side by side: built from a line of text, drawn on the same images, measured."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip import registry, spec
from patchclip.contracts import Guided, Masker, Resizing
from patchclip.errors import ConfigError, TowerError
from patchclip.evaluation.mask_view import View
from patchclip.evaluation.masks import (
    entropy_bits,
    keep_probability,
    mean_overlap,
    overlap_matrix,
    share_kept,
)
from patchclip.masking._edges import edge_energy
from patchclip.models.guide import Guide
from patchclip.models.slot import hash_seed
from patchclip.models.towers import ClipEncoder

DRAWS = 32
"""Masks drawn of each image with different seeds: figures are means over them."""

GUIDE_REPEATS = 3


@dataclass(frozen=True)
class Strategy:
    """One masker with the options that were set beside the ratio.

    Args:
        name: of the method.
        masker: ready to use; a guided one has its scorer.
        options: as given by the user.
    """

    name: str
    masker: Masker
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """The options in words: "protect 0.2, growth_steps 1"."""
        return ", ".join(f"{key} {value}" for key, value in self.options.items())

    @property
    def label(self) -> str:
        """Name and options: tells two columns of the same method apart."""
        return f"{self.name} ({self.note})" if self.options else self.name

    def keep(self, view: View, seed: int) -> Int64[Tensor, "b k"]:
        """The patches kept, as `models/masked.preview` shows them for this seed: ascending, on the CPU."""
        if self.masker.kept(view.patches, view.progress) >= view.patches:
            return torch.arange(view.patches).expand(len(view.pixels), -1)
        generator = torch.Generator(view.tokens.device).manual_seed(hash_seed((seed,)))
        return self.masker.select(view.pixels, view.tokens, view.progress, generator).cpu()


Giver = Callable[[Guided], None]
"""Gives a guided masker its scorer, or raises ConfigError with what is missing."""


def guide_of(encoder: ClipEncoder | None, text: str | None) -> Giver:
    """Scores for guided maskers by a model, and for those that follow a text by `text` too.

    Args:
        encoder: None if there is no model.
        text: for instance "a cat"; None if there is none.
    """

    def give(masker: Guided) -> None:
        if encoder is None:
            raise ConfigError("a strategy that ranks patches by what a model sees needs one: give --model")
        if masker.score == "text" and text is None:
            raise ConfigError("a strategy that follows a text needs one: give --text, as --text 'a cat'")
        settings = {name: getattr(masker, name) for name in ("resolution", "layers") if hasattr(masker, name)}
        guide = Guide(encoder.model, masker.score, **settings)
        if text is not None and masker.score == "text":
            guide.read(encoder.tokenizer([text]).to(encoder.device))
        masker.scorer = guide

    return give


def parse(text: str, ratio: float, give: Giver) -> tuple[list[Strategy], list[tuple[str, str]]]:
    """Strategies from `all` or a comma list of NAME or NAME:key=value;key=value.

    Args:
        text: for instance "random,pgs,pgs:protect=0.2;growth_steps=1"; values are YAML. `all` is every
            registered masker but `none`, which is the image itself.
        ratio: share of patches dropped, in [0, 1), for each masker with an option `mask_ratio` not set.
        give: is called for each guided masker.

    Returns:
        The strategies, and (name, reason) of those that `all` had to leave out.

    Raises:
        ConfigError: `ratio` outside its range; an unknown name or option; a guide that is missing for a
            strategy that was asked for by name.
    """
    if not 0 <= ratio < 1:
        raise ConfigError(f"ratio={ratio} must be in [0, 1): the share of patches dropped, for instance 0.5")
    if text.strip() == "all":
        return _all(ratio, give)
    parts = spec.split(text)
    if not parts:
        raise ConfigError("strategies='' names no masker: use all, or a comma list as random,pgs")
    return [_strategy(part, ratio, give) for part in parts], []


def _all(ratio: float, give: Giver) -> tuple[list[Strategy], list[tuple[str, str]]]:
    found, left_out = [], []
    for name in registry.names("masking"):
        if name == "none":
            continue
        try:
            found.append(_strategy(name, ratio, give))
        except (ConfigError, TowerError) as error:
            left_out.append((name, str(error)))
    found.sort(key=lambda s: (s.name != "random", isinstance(s.masker, Resizing), s.name))
    return found, left_out


def _strategy(part: str, ratio: float, give: Giver) -> Strategy:
    name, options = spec.name_and_options(part)
    given = dict(options)
    if registry.accepts("masking", name, "mask_ratio"):
        given.setdefault("mask_ratio", ratio)
    masker = registry.build("masking", name, **given)
    if isinstance(masker, Guided):
        give(masker)
    return Strategy(name, masker, options)


@dataclass(frozen=True)
class Comparison:
    """Figures of strategies on the same images; [m, b] or [m] with m strategies. NaN: not known.

    Args:
        foreground: share of the foreground kept, mean over draws.
        energy: share of edge energy kept (mean Sobel magnitude of each patch), mean over draws.
        entropy: bits a patch, 0 (always the same) to 1 (a fair coin).
        overlap: [m, m], mean Jaccard overlap of each pair; NaN for a strategy that resizes.
        milliseconds: of selection (and its guide), an image: median of repeats of the whole batch.
    """

    foreground: Float[Tensor, "m b"]
    energy: Float[Tensor, "m b"]
    entropy: Float[Tensor, "m b"]
    overlap: Float[Tensor, "m m"]
    milliseconds: Float[Tensor, "m"]

    @property
    def mean_overlap(self) -> Float[Tensor, "m"]:
        """Mean overlap of each strategy with the others."""
        known = ~self.overlap.diagonal().isnan()
        means = torch.full((len(known),), torch.nan)
        means[known] = mean_overlap(self.overlap[known][:, known])
        return means


def compare(strategies: list[Strategy], view: View, seed: int = 0, draws: int = DRAWS) -> Comparison:
    """Draws each strategy repeatedly on the same images and measures what it keeps.

    A strategy that resizes sees the whole image in fewer pixels: shares and overlap mean nothing there (NaN).

    Args:
        strategies: at least one.
        view: the images.
        seed: of the first draw.
        draws: repeats, at least 2.
    """
    energy = edge_energy(view.pixels, view.patches).cpu()
    masks, times = zip(*[_draw(strategy, view, seed, draws) for strategy in strategies], strict=True)
    resizing = torch.tensor([isinstance(strategy.masker, Resizing) for strategy in strategies])
    shares = []
    for weight in (view.area, energy):
        repeated = weight.repeat(draws, 1)
        kept = [share_kept(m.flatten(0, 1), repeated).view(draws, -1).mean(dim=0) for m in masks]
        shares.append(torch.stack(kept).masked_fill(resizing[:, None], torch.nan))
    overlap = overlap_matrix(masks, view.patches)
    overlap[resizing], overlap[:, resizing] = torch.nan, torch.nan
    entropy = torch.stack([entropy_bits(keep_probability(m, view.patches)) for m in masks])
    return Comparison(shares[0], shares[1], entropy, overlap, torch.tensor(times))


def _draw(strategy: Strategy, view: View, seed: int, draws: int) -> tuple[Int64[Tensor, "r b k"], float]:
    """Masks of all images, `draws` times, and milliseconds an image; a guide looks once, but is timed."""
    masker: Any = strategy.masker
    scorer = getattr(masker, "scorer", None)
    strategy.keep(view, seed)
    times, masks = [], []
    if scorer is not None:
        times = [_milliseconds(lambda: strategy.keep(view, seed)) for _ in range(GUIDE_REPEATS)]
        scores = scorer(view.pixels, view.patches)
        masker.scorer = lambda pixels, patches: scores
    try:
        for i in range(draws):
            start = time.perf_counter()
            masks.append(strategy.keep(view, hash_seed((seed, i)) if i else seed))
            if scorer is None:
                times.append(1e3 * (time.perf_counter() - start))
    finally:
        if scorer is not None:
            masker.scorer = scorer
    return torch.stack(masks), float(torch.tensor(times).median()) / len(view.pixels)


def _milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)
