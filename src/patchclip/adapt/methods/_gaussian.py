"""What Gaussian discriminant analysis estimates from few images: a precision, and classes without images."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import DataError


def wide(tensor: Tensor) -> Tensor:
    """In float64, on the CPU where its device has none."""
    return tensor.detach().to("cpu" if tensor.device.type == "mps" else tensor.device).double()


def check(
    x: Float[Tensor, "n f"], y: Int64[Tensor, " m"], t: Float[Tensor, "c e"], name: str = "images"
) -> None:
    """Raises DataError unless these images and labels can be learned from, with these texts."""
    if not len(x) or x.shape[1] != t.shape[1] or not bool(x.isfinite().all() & t.isfinite().all()):
        raise DataError(
            f"{len(x)} {name} of width {x.shape[1]}, {len(t)} texts of width {t.shape[1]}: there must be "
            "images, of the texts' width and finite, as the texts; check the model that encoded them"
        )
    if len(y) != len(x) or int(y.min()) < 0 or int(y.max()) >= len(t):
        span = f" in [{int(y.min())}, {int(y.max())}]" if len(y) else ""
        raise DataError(
            f"{len(y)} labels{span} for {len(x)} {name} must be one each, in [0, {len(t) - 1}]: there are "
            f"{len(t)} texts"
        )


def precision(covariance: Float[Tensor, "e e"], count: int, shrunk: bool) -> Float[Tensor, "e e"]:
    """e inv((count - 1) S + tr(S) I), or the pseudo-inverse of S; zeros for a covariance of zeros.

    Source: Kubokawa and Srivastava, Journal of Multivariate Analysis 99, 2008 (an empirical Bayes estimate).

    Args:
        covariance: S.
        count: images that it was estimated from.
        shrunk: whether the estimate is the first of the two.
    """
    if not shrunk:
        return torch.linalg.pinv(covariance, hermitian=True)
    width = len(covariance)
    spread = covariance.trace() * torch.eye(width, dtype=covariance.dtype, device=covariance.device)
    return width * torch.linalg.pinv((count - 1) * covariance + spread, hermitian=True)


def pseudo(
    x: Float[Tensor, "n e"], t: Float[Tensor, "c e"], near: tuple[int, int], shrunk: bool
) -> tuple[Float[Tensor, "c e"], Float[Tensor, "e e"]]:
    """Means of classes without images, and the precision that they share: the mean of their own.

    Args:
        x: images of other classes.
        t: text of each class.
        near: k, the images nearest to a text that stand for its class; how often the text counts in its mean.
        shrunk: see `precision`.
    """
    k, repeats = near
    means, shared = torch.zeros_like(t), x.new_zeros(x.shape[1], x.shape[1])
    for i, text in enumerate(t):
        found = x[(x @ text).topk(k).indices]
        means[i] = (found.sum(0) + repeats * text) / (k + repeats)
        about = found - text
        shared += precision(about.T @ about / max(1, k - 1), k, shrunk) / len(t)
    return means, shared
