"""What an evaluation gives: the results, and what is missing."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from patchclip.evaluation.result import Result


@dataclass(frozen=True)
class Missing:
    """A data set or suite that could not be evaluated.

    Attributes:
        asked: its name.
        reason: why, with the file and the cure.
        damaged: whether it is there but cannot be used.
    """

    asked: str
    reason: str
    damaged: bool = False


class Results(Sequence[Result]):
    """Results in the order they were made, and what is missing.

    Attributes:
        missing: data sets that were asked for and not found, or could not be used.
    """

    def __init__(self, results: Sequence[Result], missing: Sequence[Missing] = ()) -> None:
        self._results, self.missing = tuple(results), tuple(missing)

    @overload
    def __getitem__(self, index: int) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Result]: ...

    def __getitem__(self, index: int | slice) -> Result | Sequence[Result]:
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        lines = [f"{r.model}  {r.suite}  {r.dataset}  {_shown(r.metrics)}" for r in self._results]
        lines += [f"missing: {each.asked}: {each.reason}" for each in self.missing]
        return "\n".join(lines) or "no results"


def write_missing(folder: Path, missing: Sequence[Missing]) -> None:
    """missing.json, for the report; it goes away when nothing is missing."""
    path = folder / "missing.json"
    if not missing:
        path.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = [vars(each) for each in dict.fromkeys(missing)]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")


def _shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
