"""The linear probe of clip_benchmark: a linear layer trained with AdamW for ten epochs."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchclip.evaluation.probe.examples import Examples, check_labels, check_training
from patchclip.evaluation.probe.logistic import Fitted, Linear, accuracy, search

RATE, EPOCHS, BATCH = 0.1, 10, 64


def train_layer(examples: Examples, classes: int, weight_decay: float, seed: int) -> Linear:
    """A linear layer after ten epochs of AdamW on batches of 64, learning rate 0.1 falling as a cosine to 0.

    Source: clip_benchmark 1.6.2, metrics/linear_probe.py (`train`).
    Differs: for the same seed the layer starts with the same weights and sees the rows in the same order, but
        the process-wide random state is neither read nor set. What cannot be equal: clip_benchmark first
        permutes the rows by that state, which depends on what ran before, and computes in float16 on a GPU
        (`--amp`); here it is float32 anywhere. It makes as many outputs as the largest training label needs,
        here there is one for each class.

    Args:
        examples: to learn from.
        classes: c.
        weight_decay: of AdamW, >= 0, also on the bias.
        seed: of the layer's first weights and of the order of the images.

    Raises:
        DataError: as `LogisticRegression`.
    """
    check_training(examples, classes)
    generator = torch.Generator().manual_seed(seed)
    weight, bias = _first_weights(classes, examples.features.shape[1], generator)
    weight = nn.Parameter(weight.to(examples.features.device))
    bias = nn.Parameter(bias.to(examples.features.device))
    optimizer = torch.optim.AdamW([weight, bias], lr=RATE, weight_decay=weight_decay)
    steps = math.ceil(len(examples) / BATCH)
    for epoch in range(EPOCHS):
        order = _shuffled(len(examples), generator).to(examples.labels.device)
        for i, rows in enumerate(order.split(BATCH)):
            share = (epoch * steps + i) / (EPOCHS * steps)
            optimizer.param_groups[0]["lr"] = 0.5 * (1 + math.cos(math.pi * share)) * RATE
            optimizer.zero_grad()
            scores = F.linear(examples.features[rows].float(), weight, bias)
            F.cross_entropy(scores, examples.labels[rows]).backward()
            optimizer.step()
    return Linear(weight.detach(), bias.detach())


def fit_as_clip_benchmark(
    train: Examples, validation: Examples | None, classes: int, refit: bool, seed: int
) -> Fitted:
    """clip_benchmark's probe: the weight decay that is best on a validation split, 0 without one.

    Source: clip_benchmark 1.6.2, metrics/linear_probe.py (`evaluate`): 97 steps in [1e-6, 1e2].
    Differs: a weight decay that comes up twice is not trained twice; it would give the same layer.

    Args:
        train: to fit with.
        validation: to choose the weight decay on, None where there is none.
        classes: c.
        refit: whether the layer is trained again on both.
        seed: as `train_layer`.

    Raises:
        DataError: as `train_layer`; a validation split of no image, or a label in it outside the classes.
    """
    if validation is None:
        return Fitted(train_layer(train, classes, 0.0, seed), 0.0, ())
    check_labels(validation, classes)
    layers: dict[int, Linear] = {}

    def score(step: int) -> float:
        layers[step] = train_layer(train, classes, _decay(step), seed)
        return accuracy(layers[step], validation)

    peak, tried = search(score)
    chosen = layers[peak]
    if refit:
        chosen = train_layer(train.and_also(validation), classes, _decay(peak), seed)
    return Fitted(chosen, _decay(peak), tuple((_decay(step), tried[step]) for step in sorted(tried)))


def _decay(step: int) -> float:
    """Weight decay of a step: 1e-6 at 0, 1e2 at 96."""
    return float(10 ** (step / 12 - 6))


def _first_weights(classes: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weights and biases as `nn.Linear` draws them."""
    weight, bias = torch.empty(classes, width), torch.empty(classes)
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    nn.init.uniform_(bias, -1 / math.sqrt(width), 1 / math.sqrt(width), generator=generator)
    return weight, bias


def _shuffled(images: int, generator: torch.Generator) -> Tensor:
    """The order in which a shuffling `DataLoader` reads: of two numbers drawn, the second is its seed."""
    seeds = [int(torch.empty((), dtype=torch.int64).random_(generator=generator)) for _ in range(2)]
    return torch.randperm(images, generator=torch.Generator().manual_seed(seeds[1]))
