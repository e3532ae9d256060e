"""The geometry page, put together for its template, and the figures beside it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

import torch
from markupsafe import Markup

from patchclip.report._numbers import Figure, percent
from patchclip.report.figures import Axes, Curve, line_chart
from patchclip.report.geometry.drawings import histogram, layer_bars, scatter
from patchclip.report.geometry.heads import Head, TakenApart
from patchclip.report.geometry.measure import Measured, Side, quantiles, unit
from patchclip.report.geometry.pictures import Heat, Thumbnails
from patchclip.report.run_report import versions

EXTREMES = 6
IMAGE, TEXT = "images", "captions"


@dataclass(frozen=True)
class Shown:
    """Everything that the page shows.

    Args:
        model, dataset: their names.
        measured: embeddings and analyses.
        apart: what layers and heads add; None where the tower cannot be taken apart.
        heats: pictures with their heat.
        missing: why there are no heads and heats, or "".
        thumbnails: of the rows.
    """

    model: str
    dataset: str
    measured: Measured
    apart: TakenApart | None
    heats: tuple[Heat, ...]
    missing: str
    thumbnails: Thumbnails


def context(shown: Shown) -> dict[str, Any]:
    """Everything that the template uses, by name."""
    measured = shown.measured
    return {
        "shown": shown,
        "measured": measured,
        "headline": headline(measured, shown.apart),
        "map": scatter(
            "images and captions on the two main axes",
            [(IMAGE, measured.image.plane, 1), (TEXT, measured.text.plane, 2)],
        ),
        "gap": _gap(measured),
        "histograms": _histograms(measured),
        "spectra": _spectra(measured),
        "even": _even(measured),
        "extremes": [_extremes(shown, side) for side in (measured.image, measured.text)],
        "layers": _layers(shown.apart),
        "heads": _by_layer(shown.apart.heads) if shown.apart else [],
        "figures": [(name, _written(found)) for name, found in measured.figures.items()],
        "date": datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
        "versions": versions(),
    }


def summary(shown: Shown, settings: dict[str, Any]) -> dict[str, Any]:
    """All figures of the page as plain values."""
    measured = shown.measured
    sides = {name: _figures_of(measured, side) for name, side in _sides(measured)}
    return {
        "model": shown.model,
        "dataset": shown.dataset,
        "pairs": len(measured),
        "width": measured.image.rows.shape[1],
        "settings": settings,
        "bad": [asdict(each) for each in measured.bad],
        "analyses": measured.figures,
        "failed": measured.failed,
        "likelihood_rank": measured.rank,
        **sides,
        "taken_apart": asdict(shown.apart) if shown.apart else None,
        "not_taken_apart": shown.missing,
        "versions": dict(versions()),
    }


def headline(measured: Measured, apart: TakenApart | None) -> list[Figure]:
    """The figures above everything else."""
    gap = measured.figures.get("modality_gap", {})
    rows = [
        ("centroid_distance", "modality gap", "distance of the mean image from the mean caption, 0 to 2"),
        ("alignment_score", "cosine of a pair", "mean over all pairs"),
        ("relative_alignment", "above wrong pairs", "the same less the mean cosine of wrong pairs"),
        ("separability", "told apart", "rows that a plane assigns to the right modality, 0.5 by chance"),
    ]
    found = [Figure(f"{gap[key]:.3f}", label, note) for key, label, note in rows if key in gap]
    if apart is not None:
        share = sum(head.share for head in apart.heads)
        layers = len({head.layer for head in apart.heads})
        note = f"of the image embeddings' variance comes from the heads of the last {layers} layers"
        found.append(Figure(percent(share), "the last heads", note))
    return found


def _sides(measured: Measured) -> Sequence[tuple[str, Side]]:
    return ((IMAGE, measured.image), (TEXT, measured.text))


def _figures_of(measured: Measured, side: Side) -> dict[str, Any]:
    high, low = side.most_and_least(EXTREMES)
    return {
        "norms": quantiles(side.norms),
        "conformity": quantiles(side.conformity),
        "likelihoods": quantiles(side.likelihoods),
        "spectrum": side.spectrum.tolist(),
        "most_likely": [_place(measured, row) for row in high],
        "least_likely": [_place(measured, row) for row in low],
    }


def _place(measured: Measured, row: int) -> dict[str, Any]:
    return {"image": measured.rows[row], "caption": measured.captions[row]}


def _gap(measured: Measured) -> Markup:
    """Where unit-length embeddings lie on the line from the mean caption to the mean image."""
    image, text = unit(measured.image.rows), unit(measured.text.rows)
    line = unit((image.mean(dim=0) - text.mean(dim=0))[None])[0]
    groups = [(IMAGE, image @ line, 1), (TEXT, text @ line, 2)]
    return histogram("Along the gap", "place on the line through both means", groups)


def _histograms(measured: Measured) -> list[tuple[str, Markup, str]]:
    image, text = measured.image, measured.text
    cases = (
        (
            "Norms",
            "length of an embedding",
            (image.norms, text.norms),
            "A thin peak away from 0: all embeddings of a modality lie on a shell, which cosines do not see.",
        ),
        (
            "Conformity",
            "mean cosine with the others of its modality",
            (image.conformity, text.conformity),
            "How common a picture or a caption is: far right are those that resemble many others.",
        ),
        (
            "Likelihood",
            f"log-density in {measured.rank} whitened directions",
            (image.likelihoods, text.likelihoods),
            "After whitening, a rare embedding lies far out and is unlikely.",
        ),
    )
    return [
        (heading, histogram(heading, words, [(IMAGE, first, 1), (TEXT, second, 2)]), note)
        for heading, words, (first, second), note in cases
    ]


def _spectra(measured: Measured) -> Markup:
    """Shares of variance by direction, as powers of ten; those that rounding left are not drawn."""
    curves = []
    for tone, (name, side) in enumerate(_sides(measured), start=1):
        values = side.spectrum.double()
        shares = values / values.sum().clamp_min(torch.finfo(torch.float64).tiny)
        points = [(float(i), float(v.log10())) for i, v in enumerate(shares, start=1) if float(v) > 1e-9]
        curves.append(Curve(name, points, tone))
    return line_chart(curves, Axes("Variance by direction", "log10 of the share", "direction"))


def _even(measured: Measured) -> list[tuple[str, str, str]]:
    """Uniformity and alignment in words."""
    gap = measured.figures.get("modality_gap", {})
    rows = (
        (
            "uniformity_image",
            "uniformity of images",
            "0 where all are one; the lower, the more evenly spread",
        ),
        ("uniformity_text", "uniformity of captions", "the same among captions"),
        ("uniformity_cross", "uniformity across", "of images with captions that are not their own"),
        ("alignment", "alignment", "mean squared distance of a pair, 0 to 4; the lower, the nearer"),
        ("positive_angle", "angle of a pair", "mean, in degrees"),
    )
    return [(label, f"{gap[key]:.3f}", note) for key, label, note in rows if key in gap]


def _extremes(shown: Shown, side: Side) -> dict[str, Any]:
    """The most and the least likely rows of a modality."""
    of_images = side is shown.measured.image
    found: dict[str, Any] = {"what": IMAGE if of_images else TEXT, "pictures": of_images}
    for name, rows in zip(("most", "least"), side.most_and_least(EXTREMES), strict=True):
        pictures = [shown.thumbnails[row] if of_images else "" for row in rows]
        captions = [shown.measured.captions[row] for row in rows]
        found[name] = list(
            zip(pictures, captions, (f"{side.likelihoods[row]:.0f}" for row in rows), strict=True)
        )
    return found


def _layers(apart: TakenApart | None) -> Markup:
    if apart is None:
        return Markup("")
    return layer_bars("share of the embeddings' variance by layer", apart.attention, apart.mlps)


def _by_layer(heads: Sequence[Head]) -> list[tuple[int, list[Head]]]:
    return [(layer, list(found)) for layer, found in groupby(heads, key=lambda head: head.layer)]


def _written(figures: dict[str, float]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), f"{value:.4g}") for name, value in figures.items()]
