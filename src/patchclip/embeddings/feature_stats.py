"""Mean and covariance of embeddings that come in parts, from one process or many."""

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.linear_map import LinearMap
from patchclip.errors import CheckpointError, ConfigError, DataError

CHUNK = 1 << 14
"""Rows that are widened to float64 at a time."""

_COARSE, _FINE = (torch.finfo(kind).eps for kind in (torch.float32, torch.float64))


class FeatureStats:
    """Count, mean and scatter of rows, the same whatever parts they come in.

    merge: n = a + b, m = m_a + (b / n) (m_b - m_a), S = S_a + S_b + (a b / n) (m_b - m_a)(m_b - m_a)^T

    Source: Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
    COMPSTAT 1982, equation 2.1, for matrices in place of numbers.

    All sums are float64; memory is O(e^2), whatever number of rows.

    Args:
        width: numbers e of a row, >= 1.
        device: where the sums lie; it must have float64.

    Raises:
        DataError: a width below 1.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        if width < 1:
            raise DataError(f"width={width} must be at least 1: the numbers of an embedding")
        self.width = width
        self.count = 0
        self._rounding = _FINE
        self._mean = torch.zeros(width, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(width, width, dtype=torch.float64, device=device)

    @classmethod
    def of(cls, rows: Float[Tensor, "n e"]) -> "FeatureStats":
        """The statistics of these rows, on their device if it has float64."""
        if rows.ndim != 2:
            raise DataError(f"embeddings must be rows [n, e], got the shape {list(rows.shape)}")
        device = "cpu" if rows.device.type == "mps" else rows.device  # which has no float64
        return cls(rows.shape[1], device).update(rows)

    def update(self, rows: Float[Tensor, "n e"]) -> "FeatureStats":
        """Adds rows of any float dtype; none at all change nothing. Returns itself.

        Raises:
            DataError: rows of another width, or with NaN or infinity; then nothing was added.
        """
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise DataError(f"rows must be of the shape [n, {self.width}], got {list(rows.shape)}")
        check_finite(rows)
        if len(rows) and rows.dtype != torch.float64:
            self._rounding = _COARSE
        for part in rows.detach().split(CHUNK):
            if len(part):
                wide = part.to(self._mean)
                mean = wide.mean(dim=0)
                centred = wide - mean
                self._add(len(part), mean, centred.T @ centred)
        return self

    def merge(self, other: "FeatureStats") -> "FeatureStats":
        """Adds the rows that another has seen. Returns itself.

        Raises:
            DataError: the other is of another width.
        """
        if other.width != self.width:
            raise DataError(f"statistics of {other.width} numbers cannot be merged into {self.width}")
        self._rounding = max(self._rounding, other._rounding)
        self._add(other.count, other._mean.to(self._mean), other._scatter.to(self._mean))
        return self

    def _add(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        if not count:
            return
        apart = mean - self._mean
        self._scatter = self._scatter + scatter + torch.outer(apart, apart) * (self.count * count / total)
        self._mean = self._mean + apart * (count / total)
        self.count = total

    @property
    def rounding(self) -> float:
        """Relative rounding of the coarsest rows: float64's, or float32's for all others."""
        return self._rounding

    @property
    def mean(self) -> Float[Tensor, "e"]:
        """Mean row, float64. Raises DataError before the first row."""
        self._need(1, "a mean")
        return self._mean

    @property
    def covariance(self) -> Float[Tensor, "e e"]:
        """Covariance with n - 1 below the line, float64. Raises DataError before the second row."""
        self._need(2, "a covariance")
        return self._scatter / (self.count - 1)

    @property
    def variance(self) -> Float[Tensor, "e"]:
        """Variance of each number, n - 1 below the line, float64."""
        return self.covariance.diagonal()

    @property
    def gram(self) -> Float[Tensor, "e e"]:
        """Sum of x x^T over the rows, not centred, float64. Raises DataError before the first row."""
        self._need(1, "a Gram matrix")
        return self._scatter + self.count * torch.outer(self._mean, self._mean)

    def _need(self, rows: int, what: str) -> None:
        if self.count < rows:
            raise DataError(f"{what} needs at least {rows} row{'s'[: rows - 1]}, got {self.count}")

    def merged_over_processes(self) -> "FeatureStats":
        """The statistics of the rows of all processes; its own copy where torch.distributed is not in use.

        The same numbers on every process. All must call it, with the same width; one may have seen no rows.
        """
        merged = FeatureStats(self.width, self._mean.device)
        merged.load_state_dict(self.state_dict())
        if not (dist.is_available() and dist.is_initialized()):
            return merged
        cuda = "nccl" in dist.get_backend() and not self._mean.is_cuda
        device = torch.device("cuda", torch.cuda.current_device()) if cuda else self._mean.device
        mean, scatter = self._mean.to(device), self._scatter.to(device)
        sums = torch.cat([mean.new_tensor([float(self.count)]), mean * self.count])
        dist.all_reduce(sums)
        count = int(sums[0])
        if not count:
            return merged
        whole = sums[1:] / count
        apart = mean - whole
        scatter = scatter + torch.outer(apart, apart) * self.count
        dist.all_reduce(scatter)
        rounding = mean.new_tensor(self._rounding)
        dist.all_reduce(rounding, op=dist.ReduceOp.MAX)
        merged.count, merged._rounding = count, float(rounding)
        merged._mean, merged._scatter = whole.to(self._mean), scatter.to(self._mean)
        return merged

    def state_dict(self) -> dict[str, Any]:
        """Count, mean, scatter and the rounding of the rows as tensors: what safetensors can hold."""
        count, rounding = torch.tensor(self.count, dtype=torch.int64), self._mean.new_tensor(self._rounding)
        sums = {"mean": self._mean.clone(), "scatter": self._scatter.clone()}
        return {"count": count, **sums, "rounding": rounding}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave.

        Raises:
            CheckpointError: parts are missing, or of another width.
        """
        missing = {"count", "mean", "scatter", "rounding"} - state.keys()
        if missing:
            raise CheckpointError(f"the state of feature statistics lacks {', '.join(sorted(missing))}")
        if state["mean"].shape != (self.width,) or state["scatter"].shape != (self.width, self.width):
            raise CheckpointError(
                f"feature statistics of {self.width} numbers cannot take over a state of the shape "
                f"{list(state['scatter'].shape)}"
            )
        self.count, self._rounding = int(state["count"]), float(state["rounding"])
        self._mean, self._scatter = state["mean"].to(self._mean), state["scatter"].to(self._mean)


def check_finite(rows: Float[Tensor, "n e"], what: str = "rows") -> None:
    """Raises DataError where embeddings hold NaN or infinity; `what` they are is said in its message."""
    parts = rows.detach().split(CHUNK)
    bad = torch.cat([~part.isfinite().all(dim=1) for part in parts]).nonzero()[:, 0].tolist()
    if bad:
        raise DataError(
            f"embeddings must be finite, but {len(bad)} of {len(rows)} {what} hold NaN or infinity, the "
            f"first is row {bad[0]}: leave them out"
        )


def mean_row(parts: Iterable[Float[Tensor, "_ e"]]) -> Float[Tensor, "e"]:
    """Mean of rows that come in parts, float64, in O(n e).

    Raises:
        DataError: there are no rows.
    """
    total, count = torch.zeros(()), 0
    for part in parts:
        wide = part.cpu().double() if part.device.type == "mps" else part.double()
        total, count = wide.sum(dim=0) + total.to(wide), count + len(part)
    if not count:
        raise DataError("a mean needs at least 1 row, got 0")
    return total / count


def principal(symmetric: Float[Tensor, "e e"]) -> tuple[Float[Tensor, "e"], Float[Tensor, "e e"]]:
    """Eigenvalues, the largest first, and eigenvectors as columns, whose largest entry is positive."""
    values, vectors = torch.linalg.eigh(symmetric.double())
    values, vectors = values.flip(0), vectors.flip(1)
    largest = vectors.abs().argmax(dim=0, keepdim=True)
    return values, vectors * vectors.gather(0, largest).sign()


def varying(stats: FeatureStats) -> int:
    """Directions in which rows vary by more than their rounding: at most n - 1 of n rows."""
    return _varying(stats, principal(stats.covariance)[0])


def _varying(stats: FeatureStats, values: Float[Tensor, "e"]) -> int:
    """The same, of the covariance's eigenvalues, which are off by the largest one's rounding themselves."""
    size = values.sum() + stats.mean.square().sum()
    floor = 16 * stats.rounding**2 * size + stats.width * _FINE * values.max()
    return min(int((values > floor).sum()), stats.count - 1)


def check_whitening(shrinkage: float, rank: int | None) -> None:
    """Raises ConfigError for options outside the range that `whitening` takes."""
    if not 0 <= shrinkage <= 1:
        raise ConfigError(f"shrinkage={shrinkage} must be in [0, 1]: 0 is the covariance as it is")
    if rank is not None and rank < 1:
        raise ConfigError(f"rank={rank} must be at least 1, or None for all directions that vary")


def log_normal(squares: Float[Tensor, "n"], rank: int) -> Float[Tensor, "n"]:
    """Log-density of the standard normal distribution of `rank` numbers, by the squared lengths of rows."""
    return -(rank * math.log(2 * math.pi) + squares) / 2


def whitening(stats: FeatureStats, shrinkage: float = 0.0, rank: int | None = None) -> LinearMap:
    """The map after which rows have no mean and the identity as their covariance.

    W = (rho I + lambda)^(-1/2) V^T of the r largest eigenvalues, y = W (x - mean)

    lambda = (1 - shrinkage) eigenvalues, rho = shrinkage * mean eigenvalue.

    Args:
        stats: of the rows.
        shrinkage: share of the covariance replaced by that of a ball of the same trace, in [0, 1]. Above 0
            every direction is kept and the covariance of the mapped rows is the identity only nearly.
        rank: directions kept, those of the largest variance; None for all whose variance is above
            rounding: at most n - 1 of n rows.

    Raises:
        ConfigError: an option outside its range.
        DataError: fewer than 2 rows, or fewer directions that vary than `rank`.
    """
    check_whitening(shrinkage, rank)
    values, vectors = principal(stats.covariance)
    found = stats.width if shrinkage and values[0] > 0 else _varying(stats, values)
    values = (1 - shrinkage) * values + shrinkage * values.mean()
    kept = found if rank is None else rank
    if not 1 <= kept <= found:
        raise DataError(
            f"{stats.count} rows vary in {found} of {stats.width} directions, so they cannot be whitened at "
            f"rank={rank}: give more rows, a smaller rank, or shrinkage above 0"
        )
    return LinearMap((vectors[:, :kept] / values[:kept].sqrt()).T.contiguous(), shift=stats.mean)
