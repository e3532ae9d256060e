"""What an adaptation gives: figures of every seed beside zero-shot, and which images changed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

RESULT = "result.json"


@dataclass(frozen=True)
class Row:
    """One measure, a share in [0, 1]; a value for each seed.

    Attributes:
        measure: in words.
        zero_shot: without the adaptation.
        adapted: with it.
        probe: of logistic regression on the same images' embeddings; none where it has no meaning.
        interval: ends of the 95 % interval of adapted - zero-shot over draws of the test images, the seeds'
            mean; None where the test images differ between the seeds.
    """

    measure: str
    zero_shot: tuple[float, ...]
    adapted: tuple[float, ...]
    probe: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None

    @property
    def gains(self) -> tuple[float, ...]:
        """Adapted - zero-shot, seed by seed."""
        return tuple(b - a for a, b in zip(self.zero_shot, self.adapted, strict=True))


@dataclass(frozen=True)
class Adaptation:
    """The outcome of one method on one set.

    Attributes:
        kind: "adapter", "towers" or "captions".
        method: as it was asked for.
        model, dataset: their names.
        settings: as `Settings.to_json`.
        rows: the figures.
        seeds: what each seed learned from and took, plain values.
        classes: name, images and both recalls of each class, seeds' means; none for captions.
        changed: images whose answer changed in most seeds: number, label, both guesses, whether now right.
        protocol: how it was measured, in one sentence.
        fingerprint: of the test images.
        bad: key and reason of each image, of any split, that could not be read and was left out.
    """

    kind: str
    method: str
    model: str
    dataset: str
    settings: dict[str, Any]
    rows: tuple[Row, ...]
    seeds: tuple[dict[str, Any], ...]
    classes: tuple[dict[str, Any], ...] = ()
    changed: tuple[dict[str, Any], ...] = ()
    protocol: str = ""
    fingerprint: str = ""
    bad: tuple[dict[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Adaptation":
        """Of what `to_json` gave."""
        rows = tuple(
            Row(
                measure=row["measure"],
                zero_shot=tuple(row["zero_shot"]),
                adapted=tuple(row["adapted"]),
                probe=tuple(row["probe"]),
                interval=None if row["interval"] is None else (row["interval"][0], row["interval"][1]),
            )
            for row in found["rows"]
        )
        listed: dict[str, Any] = {name: tuple(found[name]) for name in ("seeds", "classes", "changed")}
        return cls(**{**found, "rows": rows, **listed, "bad": tuple(found.get("bad", ()))})

    @property
    def left_out(self) -> str:
        """How many images could not be read and why the first could not; "" if all could."""
        if not self.bad:
            return ""
        first, many = self.bad[0], len(self.bad) > 1
        words = f"{len(self.bad)} images" if many else "1 image"
        return (
            f"{words} could not be read and {'were' if many else 'was'} left out"
            f"{', the first' if many else ''}: {first['key']}: {first['reason']}"
        )

    def lines(self) -> Iterator[str]:
        """A line a measure, and one on images that were left out."""
        for row in self.rows:
            words = [f"zero-shot {shown(row.zero_shot)}"]
            words += [f"linear probe {shown(row.probe)}"] if row.probe else []
            words += [
                f"{self.method.partition(':')[0]} {shown(row.adapted)}",
                f"gain {fmean(row.gains) * 100:+.1f} points",
            ]
            yield f"{row.measure:<28} {', '.join(words)}"
        if self.left_out:
            yield self.left_out


def shown(values: tuple[float, ...]) -> str:
    """Mean and standard deviation of shares, in per cent."""
    spread = f" ± {stdev(values) * 100:.1f}" if len(set(values)) > 1 else ""
    return f"{fmean(values) * 100:.1f}{spread} %"
