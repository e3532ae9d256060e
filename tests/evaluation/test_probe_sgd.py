"""clip_benchmark's probe against a plain torch training."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from patchclip.errors import DataError
from patchclip.evaluation.probe import sgd
from patchclip.evaluation.probe.examples import Examples
from patchclip.evaluation.probe.logistic import Linear, accuracy

from ._clusters import clusters


def reference_sgd(examples: Examples, classes: int, weight_decay: float, seed: int) -> Linear:
    """nn.Linear, DataLoader and AdamW in their plainest use, with the process-wide random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = nn.Linear(examples.features.shape[1], classes)
        loader = DataLoader(TensorDataset(examples.features, examples.labels), batch_size=64, shuffle=True)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10 * len(loader))
        for _ in range(10):
            for features, labels in loader:
                optimizer.zero_grad()
                F.cross_entropy(layer(features), labels).backward()
                optimizer.step()
                schedule.step()
    return Linear(layer.weight.detach(), layer.bias.detach())


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sgd_gives_the_numbers_of_a_plain_training(weight_decay: float, seed: int) -> None:
    examples = clusters(150, 8, 3, 1.0)
    before = torch.random.get_rng_state()
    found = sgd.train_layer(examples, 3, weight_decay, seed)
    assert torch.equal(before, torch.random.get_rng_state())
    wanted = reference_sgd(examples, 3, weight_decay, seed)
    assert found.weight.numpy() == pytest.approx(wanted.weight.numpy(), abs=1e-4)
    assert found.bias.numpy() == pytest.approx(wanted.bias.numpy(), abs=1e-4)


def test_sgd_without_validation_has_no_weight_decay_and_with_it_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sgd, "EPOCHS", 1)
    train, validation = clusters(64, 8, 3, 2.0), clusters(90, 8, 3, 2.0, seed=1)
    plain = sgd.fit_as_clip_benchmark(train, None, 3, refit=True, seed=0)
    assert (plain.strength, plain.sweep) == (0.0, ())
    assert torch.equal(plain.classifier.weight, sgd.train_layer(train, 3, 0.0, 0).weight)
    best = sgd.fit_as_clip_benchmark(train, validation, 3, refit=False, seed=0)
    assert dict(best.sweep)[best.strength] == max(dict(best.sweep).values())
    assert accuracy(best.classifier, validation) == dict(best.sweep)[best.strength]
    again = sgd.fit_as_clip_benchmark(train, validation, 3, refit=True, seed=0)
    both = sgd.train_layer(train.and_also(validation), 3, best.strength, 0)
    assert torch.equal(again.classifier.weight, both.weight)
    with pytest.raises(DataError, match="of class 0"):
        sgd.train_layer(Examples("one", torch.eye(2), torch.zeros(2, dtype=torch.int64)), 3, 0.0, 0)
