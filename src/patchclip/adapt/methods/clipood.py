"""CLIPood: fine-tuning of the image tower that keeps what lies outside of the shots."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.adapt.methods._standing import Classes, held, merge, substituted, trainable, wide
from patchclip.adapt.methods._tuning import Progress, Schedule, tune
from patchclip.contracts import Shots
from patchclip.errors import ConfigError


class CLIPood:
    """Trains the image tower against frozen class texts, with margins, and averages its weights over time.

    L = CE(s (f T^t + margin (1 - t_y T^t)), y);  weights = sum_i a_i w_i / sum_i a_i,
    a_i = (x_i (1 - x_i))^(beta - 1), x_i = (i + 1/2) / (steps + 1), i = 0 (untrained) ... steps

    Source: Shu, Guo, Wu, Wang, Wang, Long, "CLIPood: Generalizing CLIP to Out-of-Distributions", ICML 2023,
    arXiv 2302.00864 (margin metric softmax; Beta moving average), and its released code (the form of both).
    Differs: the released code rounds the weights to half precision after every update, and averages them so,
    which loses updates below half a step of that format; here both are float32 whatever the model's dtype.
    Gains and biases of norms learn unless they are frozen, as in that code, which only says to freeze them.
    Images are not augmented: shots give preprocessed ones. A batch is drawn from all shots, not a share from
    each domain.

    Args:
        margin: lambda, >= 0: what a rival class gets on top is `margin` times its distance to the true one.
        beta: of the Beta distribution, > 0: below 1 the first and last weights count most, 1 is the plain
            mean, above 1 those of the middle; None for no average, the last weights.
        steps: updates.
        lr: learning rate, which falls to 0 along a cosine.
        batch_size: images in an update.
        weight_decay: of AdamW.

    Raises:
        ConfigError: an option outside its range.
    """

    def __init__(
        self,
        margin: float = 0.3,
        beta: float | None = 0.5,
        *,
        steps: int = 5000,
        lr: float = 5e-6,
        batch_size: int = 36,
        weight_decay: float = 0.1,
    ) -> None:
        if not 0 <= margin < float("inf"):
            raise ConfigError(f"margin={margin} must be finite and at least 0; 0 is plain cross-entropy")
        if beta is not None and not 0 < beta < float("inf"):
            raise ConfigError(f"beta={beta} must be above 0, or None to keep the last weights")
        self.margin, self.beta = margin, beta
        self.schedule = Schedule(steps, batch_size, lr, weight_decay)

    def fit(
        self,
        model: Any,
        shots: Shots,
        tokens: Int64[Tensor, "c s"],
        generator: torch.Generator,
        progress: Progress | None = None,
    ) -> "CLIPood":
        """Trains the image tower of `model` in place; where it fails the model is as it was.

        Args:
            model: a CLIP with `encode_image`, `encode_text`, `logit_scale` and `visual`; what is frozen of
                the image tower stays so.
            shots: images and labels.
            tokens: a prompt of each class.
            generator: of the order of the images, on the CPU.
            progress: told of steps and losses.

        Raises:
            TowerError: a model without an image tower, or one that is all frozen.
            DataError: no images, fewer than two classes, or labels that are none of them.
            TrainingError: a loss that is not finite.
        """
        classes = Classes(model, shots, tokens)
        names = trainable(model.visual)
        own = {f"visual.{name}": model.visual.get_parameter(name) for name in names}
        weights = {name: wide(p.detach()).clone().requires_grad_() for name, p in own.items()}
        moved = {} if self.beta is None else {name: torch.zeros_like(w) for name, w in weights.items()}
        shares = [] if self.beta is None else running_shares(self.schedule.steps, self.beta).tolist()

        def gradients(rows: list[int]) -> Tensor:
            stand_ins = {name: weights[name].to(p.dtype) for name, p in own.items()}
            return substituted(model, stand_ins, lambda: self.step(classes, texts, rows))

        @torch.no_grad()
        def watch(step: int, loss: float | None) -> None:
            for name, mean in moved.items():  # of the way gone, which a mean of weights would round off
                mean.lerp_(weights[name] - own[name], shares[step])
            if progress is not None and loss is not None:
                progress(step, self.schedule.steps, loss)

        with held(model):
            with torch.no_grad():
                texts = classes.texts()
            tune(list(weights.values()), gradients, len(classes), self.schedule, generator, watch)
        merge(model, {name: own[name] + mean for name, mean in moved.items()} or weights)
        return self

    def step(self, classes: Classes, texts: Float[Tensor, "c e"], rows: list[int]) -> Tensor:
        """The loss of a batch, 0-d, its gradients left with the weights."""
        labels = classes.labels[rows]
        logits = margin_logits(classes.images(rows), texts, labels, classes.scale, self.margin)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        return loss


def margin_logits(
    image: Float[Tensor, "b e"],
    texts: Float[Tensor, "c e"],
    labels: Int64[Tensor, " b"],
    scale: Tensor | float,
    margin: float,
) -> Float[Tensor, "b c"]:
    """s (f T^t + margin (1 - t_y T^t)) of unit-length rows: what is far from the true class gets most."""
    return scale * (image @ texts.T + margin * (1 - texts[labels] @ texts.T))


def running_shares(steps: int, beta: float) -> Float[Tensor, " t"]:
    """Share of the weights i in the mean of the weights 0 to i, float64 [steps + 1]; the first is 1."""
    x = (torch.arange(steps + 1, dtype=torch.float64) + 0.5) / (steps + 1)
    density = (4 * x * (1 - x)) ** (beta - 1)
    return density / density.cumsum(0)
