"""CLIP-SVD: few-shot adaptation of both towers by the singular values of their weights."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from patchclip.adapt.methods._singular import Singular, matrices, singular
from patchclip.adapt.methods._standing import Classes, held, merge, substituted
from patchclip.adapt.methods._tuning import Progress, Schedule, tune
from patchclip.contracts import Shots
from patchclip.errors import ConfigError, TowerError


class ClipSVD:
    """Trains the singular values of every matrix in the blocks, and nothing else.

    L = CE(s f T^t, y);  W = U diag(s') V^T with U, V fixed, for q, k, v, output and MLP of both towers

    Source: Koleilat, Rivaz, Xiao, "Singular Value Few-shot Adaptation of Vision-Language Models", 2025,
    arXiv 2509.03740, and its released code (defaults of its few-shot configurations).
    Differs: the weight is W + U diag(s' - s) V^T, the same matrix, but exactly W at the start; the released
    code puts three layers for each and stays so. Its rank is cut to a multiple of 4: exact for usual widths
    only. Modules are in eval mode (the code's train mode differs where there is dropout), images are not
    augmented (random crops and flips in the code), and the scale is the model's own (100 in the code, which
    is that of OpenAI's models).

    Args:
        image: adapt the image tower.
        text: adapt the text tower; every update then embeds the prompts of all classes.
        steps: updates; None for 200 times the images a class, at least 200.
        lr: learning rate, which falls to 1e-6, or to lr if that is less, along a cosine.
        batch_size: images in an update.
        weight_decay: of AdamW; it draws singular values to 0, not to where they started.

    Raises:
        ConfigError: an option outside its range, or neither tower.
    """

    def __init__(
        self,
        image: bool = True,
        text: bool = True,
        *,
        steps: int | None = None,
        lr: float = 5e-4,
        batch_size: int = 32,
        weight_decay: float = 0.01,
    ) -> None:
        if not (image or text):
            raise ConfigError("image=False and text=False leave nothing to adapt: choose a tower")
        self.image, self.text, self.steps = image, text, steps
        self.schedule = Schedule(200 if steps is None else steps, batch_size, lr, weight_decay, min(1e-6, lr))

    def fit(
        self,
        model: Any,
        shots: Shots,
        tokens: Int64[Tensor, "c s"],
        generator: torch.Generator,
        progress: Progress | None = None,
    ) -> "ClipSVD":
        """Adapts `model` in place; where it fails the model is as it was.

        Args:
            model: a CLIP with `encode_image`, `encode_text`, `logit_scale` and `visual`.
            shots: images and labels.
            tokens: a prompt of each class.
            generator: of the order of the images, on the CPU.
            progress: told of steps and losses.

        Raises:
            TowerError: a model without these, or a tower without transformer blocks.
            DataError: no images, fewer than two classes, or labels that are none of them.
            TrainingError: a loss that is not finite.
        """
        classes = Classes(model, shots, tokens)
        found = self.decomposed(model)
        given = self.schedule
        steps = 200 * max(1, round(len(classes) / len(tokens))) if self.steps is None else self.steps
        schedule = Schedule(steps, given.batch_size, given.lr, given.weight_decay, given.final_lr)

        def gradients(rows: list[int]) -> Tensor:
            stand_ins = {name: weight.merged() for name, weight in found.items()}
            return substituted(model, stand_ins, lambda: self.step(classes, fixed, rows))

        def watch(step: int, loss: float | None) -> None:
            if progress is not None and loss is not None:
                progress(step, steps, loss)

        with held(model):
            with torch.no_grad():
                fixed = None if self.text else classes.texts()
            tune([w.values for w in found.values()], gradients, len(classes), schedule, generator, watch)
        merge(model, {name: weight.merged() for name, weight in found.items()})
        return self

    def decomposed(self, model: nn.Module) -> dict[str, Singular]:
        """The weights that are adapted, by name."""
        parts: dict[str, dict[str, int]] = {"image": {}, "text": {}}
        for name, count in matrices(model).items():
            parts["image" if name.startswith("visual.") else "text"][name] = count
        wanted = [tower for tower in parts if getattr(self, tower)]
        for tower in wanted:
            if not parts[tower]:
                raise TowerError(f"the {tower} tower has no transformer blocks to adapt: set {tower}=False")
        chosen = {name: count for tower in wanted for name, count in parts[tower].items()}
        return {name: singular(model.get_parameter(name), count) for name, count in chosen.items()}

    def step(self, classes: Classes, fixed: Float[Tensor, "c e"] | None, rows: list[int]) -> Tensor:
        """The loss of a batch, 0-d, its gradients left with the singular values."""
        texts = classes.texts() if fixed is None else fixed
        loss = F.cross_entropy(classes.scale * classes.images(rows) @ texts.T, classes.labels[rows])
        loss.backward()
        return loss
