"""Gaussian discriminant analysis beside the zero-shot classifier."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.adapt.methods._gaussian import check, precision, pseudo, wide
from patchclip.errors import CheckpointError, ConfigError, DataError

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
UNCHOSEN = 0.1
SHRINKAGES = ("ks", "none")
STATE = ("weight", "bias", "texts", "scale", "alpha")


class GDA:
    """Adds to zero-shot scores those of Gaussian classes with one covariance, in closed form.

    scores = scale x T^t + alpha (x W^t + b), w_k = P m_k, b_k = log(1 / c) - w_k m_k / 2, P = e inv((n - 1) S
    + tr(S) I), with class means m and the covariance S of what is left of the n images without their means

    Source: Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", ICLR 2024, arXiv
    2402.04087, section 3; github mrflogs/ICLR24, main_few_shots.py and main_base2new.py.
    Differs: P of the classes with images is always as above; the released base-to-new code takes the
    pseudo-inverse of the mean of the classes' covariances there, which is no number for a class of one image.
    `neighbours` is at most n. Where no class has two images there is an error, where the released code is
    left with the zero-shot scores. Computed in float64, there float32.

    A class of `texts` without images is a new one: its pseudo-images are the `neighbours` images nearest to
    its text, and the text `repeats` times for the mean; P of the new classes is the mean of their own, each
    of S around the text. Scores of classes with and without images are not on one scale (they have other P):
    compare within, as the paper does.

    Args:
        alpha: weight of the Gaussian scores, finite, >= 0; None takes that of 1e-4, 1e-3, ... 100 with most
            right on the validation images, the first of equals, and 0.1 without such images.
        shrinkage: "ks" for P as above, "none" for the pseudo-inverse of S.
        neighbours: images a new class is estimated from, at least 2.
        repeats: how often a new class's text counts in its mean, >= 0.

    Raises:
        ConfigError: an option outside its range.
    """

    def __init__(
        self, alpha: float | None = None, shrinkage: str = "ks", neighbours: int = 64, repeats: int = 16
    ) -> None:
        if alpha is not None and not 0 <= alpha < float("inf"):
            raise ConfigError(f"alpha={alpha} must be finite and at least 0, or None to have it chosen")
        if shrinkage not in SHRINKAGES:
            raise ConfigError(f"shrinkage={shrinkage!r} must be one of {', '.join(SHRINKAGES)}")
        if neighbours < 2 or repeats < 0:
            raise ConfigError(
                f"neighbours={neighbours} must be at least 2 and repeats={repeats} at least 0: a new class "
                "is estimated from them"
            )
        self.alpha, self.shrinkage, self.neighbours, self.repeats = alpha, shrinkage, neighbours, repeats
        self._state: dict[str, Tensor] = {}

    def fit(
        self,
        features: Float[Tensor, "n e"],
        labels: Int64[Tensor, " n"],
        texts: Float[Tensor, "c e"],
        scale: float = 100.0,
        validation: tuple[Tensor, Tensor] | None = None,
    ) -> "GDA":
        """Estimates means and covariance, and chooses alpha; see the contract `Adapter`.

        Raises:
            DataError: no image, one that is not finite, a label outside the classes, also of the validation
                images; or no class with two different images.
        """
        x, t = wide(features), wide(texts)
        y = labels.to(x.device)
        check(x, y, t)
        told = None if validation is None else (wide(validation[0]), validation[1].to(x.device))
        if told is not None and (len(told[0]) or len(told[1])):
            check(*told, t, "validation images")
        count = torch.bincount(y, minlength=len(t)).to(x)
        mean = torch.zeros_like(t).index_add_(0, y, x) / count.clamp(min=1)[:, None]  # c e
        left = x - mean[y]
        covariance = left.T @ left / max(1, len(x) - 1)
        if not covariance.trace() > 1e-12 * x.square().mean(0).sum():
            raise DataError(
                f"{len(x)} images of {int((count > 0).sum())} classes: GDA needs a class with two different "
                "images; take more images of each, or several views of them"
            )
        weight = mean @ precision(covariance, len(x), self.shrinkage == "ks")
        new = (count == 0).nonzero()[:, 0]
        if len(new):
            near = (min(self.neighbours, len(x)), self.repeats)
            mean[new], shared = pseudo(x, t[new], near, self.shrinkage == "ks")
            weight[new] = mean[new] @ shared
        bias = -torch.log(count.new_tensor(float(len(t)))) - (weight * mean).sum(1) / 2
        alpha = UNCHOSEN if self.alpha is None else self.alpha
        found = (weight, bias, t, t.new_tensor(scale), t.new_tensor(alpha))
        self._state = dict(zip(STATE, found, strict=True))
        if self.alpha is None and told is not None and len(told[1]):
            self._state["alpha"] = self._chosen(told, count > 0)
        return self

    def decision_function(self, features: Float[Tensor, "b e"]) -> Float[Tensor, "b c"]:
        """Scores of the classes, at least float32. Raises ConfigError before `fit`."""
        zero_shot, gaussian = self._scores(features)
        scores = zero_shot + self._state["alpha"] * gaussian
        return scores.to(features.device, torch.promote_types(features.dtype, torch.float32))

    def predict(self, features: Float[Tensor, "b e"]) -> Int64[Tensor, " b"]:
        """The class of each."""
        return self.decision_function(features).argmax(1)

    def state_dict(self) -> dict[str, Tensor]:
        """weight [c, e] and bias [c] of the Gaussian scores, texts, scale and alpha; float64."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes what `state_dict` gave. Raises CheckpointError where a part is missing."""
        if set(state) != set(STATE):
            raise CheckpointError(
                f"a GDA has {', '.join(STATE)}, got {', '.join(sorted(state))}: another method's file?"
            )
        self._state = {name: wide(tensor) for name, tensor in state.items()}

    def _chosen(self, validation: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
        """The alpha with most right among the classes that have images."""
        zero_shot, gaussian = self._scores(validation[0])
        right = validation[1].to(seen.device)[:, None]
        found = []
        for alpha in GRID:
            scores = (zero_shot + alpha * gaussian).masked_fill(~seen, -torch.inf)
            found.append((scores.argmax(1, keepdim=True) == right).sum())
        return zero_shot.new_tensor(GRID)[torch.stack(found).argmax()]

    def _scores(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if not self._state:
            raise ConfigError("this GDA knows no class yet: call fit, or load_state_dict, first")
        s = self._state
        x = wide(features).to(s["weight"].device)
        return s["scale"] * x @ s["texts"].T, x @ s["weight"].T + s["bias"]
