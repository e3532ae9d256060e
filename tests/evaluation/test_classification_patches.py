"""Zero-shot classification by patches: each class pools the patches like it and meets what it pooled."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip import registry
from patchclip.data.sets import Multilabel
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation import _saved
from patchclip.evaluation._patches import PatchScorer, patch_reader
from patchclip.evaluation._runner import evaluate
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.evaluation.suites.classification import ClassificationSuite
from patchclip.heads.pacl import PACLHead
from patchclip.models.architectures import create
from patchclip.models.towers import ClipEncoder
from tests.engine._tiny import TINY

from ._fakes import FakeImages, TableEncoder, labelled, score

ANIMALS = ("cat", "dog", "owl", "bee", "ant", "fox")
SUITE = ClassificationSuite(by="patches")
TAU = 0.2


def identity() -> PACLHead:
    """A head that leaves tokens as they are."""
    head = PACLHead(temperature=TAU)
    head.build(8, 8)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.skip.weight.copy_(torch.eye(8))
    return head


@dataclass
class Tower:
    """`patches[i]` are the patches of picture(i), behind one prefix token."""

    patches: Tensor
    head: PACLHead | None
    blocks: tuple[()] = ()
    prefix: int = 1
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = ((0.5,) * 3, (0.25,) * 3)

    def embed(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        tokens = self.patches[pixels[:, 0, 0, 0].long()]
        return F.pad(tokens, (0, 0, 1, 0), value=7.0), (1, tokens.shape[1])

    def norm(self, tokens: Tensor) -> Tensor:
        return tokens

    def finish(self, tokens: Tensor) -> Tensor:
        raise AssertionError("a head reads tokens before the projection")


class PatchTable(TableEncoder):
    """A table of the patches of each image."""

    def __init__(self, patches: Tensor, texts: dict[str, Tensor]) -> None:
        super().__init__(F.normalize(patches.mean(1), dim=-1), texts)
        self.patches = patches
        self.head: PACLHead | None = identity()

    def tower(self) -> Tower:
        return Tower(self.patches, self.head)

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", enabled=False)


def drawn(images: int = 6, patches: int = 5, classes: int = 6) -> PatchTable:
    generator = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(classes, 8, generator=generator), dim=-1)
    return PatchTable(
        torch.randn(images, patches, 8, generator=generator), dict(zip(ANIMALS, texts, strict=False))
    )


def naive(patches: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """phi of one image with each text, pair by pair."""
    found = []
    for text in texts:
        weights = (F.cosine_similarity(patches, text[None]) / temperature).softmax(0)
        found.append(F.cosine_similarity((weights[:, None] * patches).sum(0), text, dim=0))
    return torch.stack(found)


def test_an_image_takes_the_class_that_agrees_best_with_what_it_pools() -> None:
    encoder = drawn()
    texts = torch.stack([encoder.texts[name] for name in ANIMALS])
    scores = torch.stack([naive(patches, texts, TAU) for patches in encoder.patches])
    order = scores.argsort(descending=True)
    labels = [int(order[i, i]) for i in range(6)]  # the right class of image i comes in place i + 1
    result = score(SUITE, encoder, labelled(labels, ANIMALS), 4)
    assert result.samples["acc1"].values.tolist() == [1, 0, 0, 0, 0, 0]
    assert result.samples["acc5"].values.tolist() == [1, 1, 1, 1, 1, 0]
    confidence = (scores * 100).softmax(1).amax(1)  # the table has no scale of its own
    bins = result.details["reliability"]
    mean = sum(each["confidence"] * each["count"] for each in bins if each["count"]) / 6
    assert mean == pytest.approx(confidence.mean().item(), abs=1e-4)
    assert result.task == "zeroshot_classification_by_patches"
    assert "by pacl at temperature 0.2" in result.protocol
    assert result.clip_benchmark == {}


def test_a_small_object_before_another_ground_is_found() -> None:
    """One patch of nine is the object, the others are nearer to another class than to anything else."""
    rows = torch.eye(8)
    texts = dict(zip(ANIMALS, rows, strict=False))
    ground = 0.3 * rows[0] + rows[7]
    encoder = PatchTable(torch.stack([torch.stack([4 * rows[i], *[ground] * 8]) for i in range(6)]), texts)
    benchmark = labelled([0, 1, 2, 3, 4, 5], ANIMALS)
    assert score(SUITE, encoder, benchmark).metrics["acc1"] == 1.0
    encoder.patches = torch.stack([torch.stack([rows[i], *[ground] * 8]) for i in range(6)])
    encoder.images = F.normalize(encoder.patches.mean(1), dim=-1)
    assert score(ClassificationSuite(), encoder, benchmark).metrics["acc1"] == pytest.approx(1 / 6)
    assert score(SUITE, encoder, benchmark).metrics["acc1"] == 1.0


def test_patches_that_are_all_alike_score_as_their_embedding() -> None:
    encoder = drawn(patches=1)
    encoder.patches = encoder.patches.expand(-1, 9, -1)
    benchmark = labelled([0, 1, 2, 3, 4, 5], ANIMALS)
    found, plain = score(SUITE, encoder, benchmark), score(ClassificationSuite(), encoder, benchmark)
    assert found.metrics == pytest.approx(plain.metrics, abs=1e-5)
    assert (found.chance, found.images, found.classes) == (plain.chance, plain.images, plain.classes)


def test_batches_change_nothing_and_nothing_is_kept(tmp_path: Path) -> None:
    encoder, benchmark = drawn(), labelled([0, 1, 2, 3, 4, 5], ANIMALS)
    told: list[tuple[str, int, int]] = []
    results = []
    for size in (1, 4, 64):
        encoding = Encoding(size, tmp_path, on_progress=lambda *each: told.append(each))
        results += SUITE.results(Embedder(encoder, encoding), [benchmark])
    assert results[0].metrics == pytest.approx(results[1].metrics)
    assert results[0].metrics == pytest.approx(results[2].metrics)
    assert told[6:8] == [("fake patches", 4, 6), ("fake patches", 6, 6)]
    assert not list(tmp_path.rglob("images-*"))


def test_an_unreadable_image_is_counted_and_left_out() -> None:
    encoder = drawn()
    whole = score(SUITE, encoder, labelled([0, 0, 1, 2, 3, 5], ANIMALS))
    broken = {0: "gone", 1: "gone too", 4: "cut"}
    result = score(SUITE, encoder, labelled([0, 0, 1, 2, 3, 5], ANIMALS, broken=broken), 2)
    assert [(bad.key, bad.reason) for bad in result.bad] == [(f"fake/{i}", why) for i, why in broken.items()]
    kept = [2, 3, 5]
    assert result.samples["acc1"].group.tolist() == kept
    assert torch.equal(result.samples["acc1"].values, whole.samples["acc1"].values[kept])


@pytest.mark.parametrize(
    "labels,broken,message",
    [
        ([], {}, "none of its 0 images"),
        ([0], {0: "gone"}, "none of its 1 images can be read; the first failed with: gone"),
        ([0, 6], {}, r"label 6 must be in \[0, 5\]"),
    ],
)
def test_bad_sets_are_named(labels: list[int], broken: dict[int, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(SUITE, drawn(), labelled(labels, ANIMALS, broken=broken))


def test_several_labels_rank_the_images_by_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchclip.evaluation.suites.classification.BLOCK_SCORES", 7)  # two classes at a time
    encoder = drawn(classes=3)
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 0]], np.uint8)
    data = Multilabel("fake", FakeImages(6, {3: "gone"}), labels, ANIMALS[:3], ("{c}",))
    result = score(SUITE, encoder, data, 2)
    texts = torch.stack([encoder.texts[name] for name in ANIMALS[:3]])
    read = [0, 1, 2, 4, 5]
    scores = torch.stack([naive(encoder.patches[i], texts, TAU) for i in read])
    precisions = []
    for column, right in zip(scores.T, torch.from_numpy(labels)[read].T, strict=True):
        hits = right[column.argsort(descending=True)]
        places = torch.arange(1, 6)
        precisions.append((hits.cumsum(0) / places)[hits == 1].mean())
    assert result.metrics == {"mean_average_precision": pytest.approx(torch.stack(precisions).mean().item())}
    assert (result.task, result.images, result.clip_benchmark) == (SUITE.task, 5, {})
    assert "by pacl" in result.protocol


@pytest.mark.parametrize("precision,tolerance", [("fp32", 1e-5), ("bf16", 3e-2)])
def test_a_real_tower_without_a_head_is_read_by_a_dense_method(precision: str, tolerance: float) -> None:
    torch.manual_seed(0)
    architecture = create("ViT-B-32", overrides=TINY)
    architecture.model.eval()
    encoder = ClipEncoder(architecture, precision)
    texts = F.normalize(torch.randn(4, 32), dim=-1)
    pixels = torch.randn(3, 3, 32, 32)
    reader = patch_reader(encoder)
    assert reader.words == "the patches that it pools, by naclip at temperature 0.1"
    with torch.inference_mode():
        scores = PatchScorer(reader, texts).encode_image(pixels)
        features = registry.build("dense", "naclip")(encoder.tower(), pixels).features
        expected = torch.stack([naive(each, texts, 0.1) for each in features])
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected, rtol=0, atol=tolerance)


def test_a_model_that_cannot_be_taken_apart_is_missing_and_the_rest_goes_on() -> None:
    rows = torch.eye(6)
    plain = TableEncoder(rows, {name: rows[i] for i, name in enumerate(ANIMALS)})
    benchmark = labelled([0, 1, 2, 3, 4, 5], ANIMALS)
    results = evaluate(plain, [SUITE, ClassificationSuite()], datasets=[benchmark])
    assert [result.task for result in results] == ["zeroshot_classification"]
    (missing,) = results.missing
    assert "ViT-Table:test cannot be taken apart: by=patches needs a model" in missing.reason


def test_the_method_pacl_needs_a_head() -> None:
    encoder = drawn()
    encoder.head = None
    results = evaluate(
        encoder,
        ClassificationSuite(by="patches", method="pacl"),
        datasets=[labelled([0, 1, 2, 3, 4, 5], ANIMALS)],
    )
    assert not results
    assert "needs a patch head" in results.missing[0].reason


@pytest.mark.parametrize(
    "options,message",
    [
        ({"by": "tokens"}, "by='tokens' must be image or patches"),
        ({"method": "naclip"}, "give by=patches"),
        ({"by": "patches", "method": "naclop"}, "did you mean 'naclip'"),
        ({"by": "patches", "method": "naclip:width=2"}, "no option 'width'"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClassificationSuite(**options)


def test_both_readings_and_two_methods_stand_beside_each_other(tmp_path: Path) -> None:
    suites = [
        ClassificationSuite(),
        SUITE,
        ClassificationSuite(by="patches", method="pacl"),
    ]
    evaluate(drawn(), suites, datasets=[labelled([0, 1, 2, 3, 4, 5], ANIMALS)], output=tmp_path)
    tasks = [result["task"] for _, result in _saved.read_folder(tmp_path)]
    assert tasks == [
        "zeroshot_classification",
        "zeroshot_classification_by_patches",
        "zeroshot_classification_by_patches_pacl",
    ]
    words = [_saved.task_words(task) for task in tasks]
    assert words == [
        "zero-shot classification",
        "zero-shot classification by patches",
        "zero-shot classification by patches, pacl",
    ]
    saved = [json.loads(path.read_text()) for path in tmp_path.glob("*patches_pacl.json")]
    assert _saved.headline_of(saved[0]) == ("acc1",)
    assert ClassificationSuite("patches", "naclip:std=5").task.endswith("_by_patches_naclip-std=5")
