"""What a run writes down while it trains: metrics.jsonl, TensorBoard, Weights & Biases."""

import json
import math
import os
import uuid
from pathlib import Path
from typing import Any

from patchclip.errors import ConfigError

METRICS = "metrics.jsonl"


class Tracker:
    """Appends one JSON object a line to metrics.jsonl, and the numbers in it to the other trackers.

    Args:
        run: folder of the run.
        step: lines after this step are dropped (they are trained again after a resume).
        tensorboard: also write event files to `run/tensorboard`.
        wandb: also log to this Weights & Biases project; needs the extra `wandb`.
        config: shown by Weights & Biases.

    Raises:
        ConfigError: `wandb` without the package.
    """

    def __init__(
        self, run: Path, step: int, tensorboard: bool, wandb: str | None, config: dict[str, Any]
    ) -> None:
        self._board = None
        self._wandb = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
        if wandb is not None:
            try:
                import wandb as weights_and_biases
            except ImportError as error:
                raise ConfigError(
                    "tracking.wandb needs Weights & Biases: pip install 'patchclip[wandb]'"
                ) from error
            self._wandb = weights_and_biases.init(
                project=wandb, id=wandb_id(run), name=run.name, dir=str(run), config=config, resume="allow"
            )
        cut(run / METRICS, step)
        self._file = (run / METRICS).open("a", encoding="utf-8")

    def log(self, kind: str, step: int, **values: float) -> None:
        """Writes one line: {"kind", "step", ...}; a number that is not finite is written as null."""
        line = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **line}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if self._board is not None:
                self._board.add_scalar(f"{kind}/{name}", value, step)
        if self._wandb is not None:
            self._wandb.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)

    def flush(self) -> None:
        """Brings everything to the disk: called before a checkpoint points here."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Flushes and closes all trackers."""
        self.flush()
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def wandb_id(run: Path) -> str:
    """The run's identity at Weights & Biases, drawn once and kept in its folder for a resume."""
    path = run / "wandb_id"
    if not path.is_file():
        path.write_text(uuid.uuid4().hex[:16] + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that was cut off is left out."""
    path = run / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = []
    for number, line in enumerate(lines):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if number != len(lines) - 1:
                raise
    return records


def cut(path: Path, step: int) -> None:
    """Drops the lines after `step`, so that a resumed run has each step once."""
    if not path.is_file():
        return
    kept = [record for record in read_metrics(path.parent) if record["step"] <= step]
    partial = path.with_name(path.name + ".tmp")
    partial.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    os.replace(partial, path)
