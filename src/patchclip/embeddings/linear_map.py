"""A linear map of embeddings: fitted once, applied, inverted, composed, kept on disk."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from patchclip._tensors import save_tensors
from patchclip.errors import CheckpointError, DataError

_PARTS = ("weight", "shift", "bias")


@dataclass(frozen=True)
class LinearMap:
    """y = (x - shift) weight^T + bias, on rows.

    Differs: from `nn.Linear`, by the shift that is taken off first, so that a map with a nearly singular
    weight loses no digits to the mean of the rows; and by being no module: it has no training state.

    Args:
        weight: [f, e], float32 or float64.
        shift: [e], taken off the input; None for zeros.
        bias: [f], added to the output; None for zeros.

    Raises:
        DataError: parts of other sizes, or numbers that are not finite.
    """

    weight: Float[Tensor, "f e"]
    shift: Float[Tensor, "..."] | None = None
    bias: Float[Tensor, "..."] | None = None

    def __post_init__(self) -> None:
        for name, part, size in (
            ("shift", self.shift, self.input_width),
            ("bias", self.bias, self.output_width),
        ):
            if part is not None and part.shape != (size,):
                raise DataError(
                    f"the {name} of a linear map with a weight of {list(self.weight.shape)} must be of the "
                    f"shape [{size}], got {list(part.shape)}"
                )
        for name, part in self._parts().items():
            if not part.isfinite().all():
                raise DataError(
                    f"the {name} of a linear map must be finite, got NaN or infinity: fit it anew"
                )

    @property
    def input_width(self) -> int:
        """Numbers e of an embedding that it takes."""
        return self.weight.shape[1]

    @property
    def output_width(self) -> int:
        """Numbers f of an embedding that it gives."""
        return self.weight.shape[0]

    @classmethod
    def identity(cls, width: int, dtype: torch.dtype = torch.float32) -> "LinearMap":
        """The map that changes nothing."""
        return cls(torch.eye(width, dtype=dtype))

    def apply(self, rows: Float[Tensor, "*b e"]) -> Float[Tensor, "*b f"]:
        """The mapped rows, in their own dtype and on their own device; half precision is computed in float32.

        Raises:
            DataError: rows of another width.
        """
        if rows.ndim == 0 or rows.shape[-1] != self.input_width:
            raise DataError(
                f"this linear map takes embeddings of {self.input_width} numbers, got the shape "
                f"{list(rows.shape)}: fit it on embeddings of the same model"
            )
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        if self.shift is not None:
            wide = wide - self.shift.to(wide)
        mapped = wide @ self.weight.to(wide).T
        if self.bias is not None:
            mapped = mapped + self.bias.to(wide)
        return mapped.to(rows.dtype)

    def invert(self, rank: int | None = None) -> "LinearMap":
        """The way back, by the pseudo-inverse of the weight.

        It gives x back exactly where e <= f; where f < e, and where `rank` is below e, it gives the nearest
        x of those that the fitted rows span.

        Args:
            rank: singular values of the weight that count, where it was made with fewer than min(f, e);
                None where all must.

        Raises:
            DataError: the weight has fewer singular values above the rounding of its dtype.
        """
        left, values, right = torch.linalg.svd(self.weight.double(), full_matrices=False)
        needed = len(values) if rank is None else rank
        floor = max(self.weight.shape) ** 0.5 * torch.finfo(self.weight.dtype).eps * values.max()
        found = int((values > floor).sum())
        if not 1 <= needed <= found:
            raise DataError(
                f"a linear map of rank {found} cannot be inverted at rank={needed}: ask for "
                f"invert(rank={found}), which gives back what it kept"
            )
        weight = right[:needed].T @ (left[:, :needed] / values[:needed]).T
        return LinearMap(weight.to(self.weight.dtype), shift=self.bias, bias=self.shift)

    def then(self, other: "LinearMap") -> "LinearMap":
        """One map that does this and then the other.

        Raises:
            DataError: the other takes embeddings of another width than this gives.
        """
        if other.input_width != self.output_width:
            raise DataError(
                f"a map that takes {other.input_width} numbers cannot follow one that gives "
                f"{self.output_width}"
            )
        dtype = torch.promote_types(self.weight.dtype, other.weight.dtype)
        weight = other.weight.double().to(self.weight.device) @ self.weight.double()
        between = torch.zeros(self.output_width, dtype=torch.float64, device=self.weight.device)
        bias = other.apply(between if self.bias is None else self.bias.double())
        return LinearMap(weight.to(dtype), self.shift, bias.to(dtype))

    def to(self, like: Tensor) -> "LinearMap":
        """The same map on the device of a tensor, and in its dtype, float32 for half precision."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        return LinearMap(**{name: part.to(like.device, dtype) for name, part in self._parts().items()})

    def save(self, path: str | Path) -> Path:
        """Writes one safetensors file, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        parts = {name: part.detach().cpu().contiguous().clone() for name, part in self._parts().items()}
        save_tensors(parts, partial)
        partial.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> "LinearMap":
        """The map of a file that `save` wrote.

        Raises:
            CheckpointError: no such file, one that cannot be read, or one that holds something else.
        """
        try:
            parts = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read as a linear map: {error}") from error
        if "weight" not in parts or set(parts) - set(_PARTS):
            raise CheckpointError(
                f"{path} must hold weight and, if it has them, shift and bias; it holds "
                f"{', '.join(sorted(parts)) or 'nothing'}"
            )
        return cls(**parts)

    def _parts(self) -> dict[str, Tensor]:
        """The tensors that are there, by name."""
        found = ((name, getattr(self, name)) for name in _PARTS)
        return {name: part for name, part in found if part is not None}
