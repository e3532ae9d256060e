"""The linear probe on the drawings that come with the package."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from patchclip.data import benchmarks
from patchclip.data.sets import Classification
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.evaluation.probe import logistic
from patchclip.evaluation.suites.linear_probe import LinearProbeSuite

from ._fakes import TableEncoder


class Thumbnails(TableEncoder):
    """An image is its 4 x 4 thumbnail."""

    def __init__(self) -> None:
        super().__init__(torch.zeros(1, 48), {"a": torch.ones(48)})
        self.preprocess = lambda image: torch.from_numpy(
            np.asarray(image.resize((4, 4), Image.Resampling.BOX), np.float32).transpose(2, 0, 1) / 255 - 0.5
        )

    def encode_image(self, pixels: Tensor) -> Tensor:
        return F.normalize(pixels.flatten(1), dim=1)


def test_thumbnails_of_real_drawings_say_more_than_chance_and_shuffled_labels_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logistic, "GRID", 65)  # no C above 100, for speed
    benchmark = benchmarks.load_benchmark("samples", "zs_clipart")
    assert isinstance(benchmark, Classification)
    train = benchmark.split("train")
    assert train is not None
    shuffled = np.random.default_rng(0).permutation(train.labels)
    meaningless = replace(benchmark, opener={"train": replace(train, labels=shuffled)}.get)
    embedder = Embedder(Thumbnails(), Encoding(batch_size=64))
    real, luck = LinearProbeSuite(shots=4, seeds=1).results(embedder, [benchmark, meaningless])
    assert real.metrics["lp_acc1"] > 3 * real.chance["lp_acc1"]
    assert luck.metrics["lp_acc1"] < 0.6 * real.metrics["lp_acc1"]
