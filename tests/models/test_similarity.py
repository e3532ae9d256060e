"""Rows whose inner products are the scores of another geometry, and models that are scored by them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from patchclip.data.sets import Classification
from patchclip.dense.labels import vocabulary
from patchclip.errors import CheckpointError, ConfigError
from patchclip.evaluation import _key
from patchclip.evaluation.embedder import Embedder
from patchclip.evaluation.probe.outcome import embed_splits
from patchclip.evaluation.suites.classification import ClassificationSuite
from patchclip.models import similarity
from patchclip.models.similarity import (
    Cosine,
    Lifted,
    Raw,
    origin_distance,
    read_similarity,
    write_similarity,
)
from patchclip.models.towers import ClipEncoder
from tests.evaluation._fakes import FakeImages
from tests.models import _tiny

METRICS = list(similarity.METRICS)
EXACT = ("euclidean_squared", "inner", "hyperbolic_inner")
TEXTS = ["a red dog", "two houses", "a cat"]


def rows(dtype: torch.dtype = torch.float64, width: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, width, generator=generator, dtype=torch.float64) for n in (7, 5))
    return (2 * x).to(dtype), y.to(dtype)


def poincare(x: Tensor, y: Tensor, c: float) -> Tensor:
    """Distances in the ball, of the points that the exponential map makes of x and y."""
    u, v = (torch.tanh(math.sqrt(c) * p.norm(dim=1, keepdim=True) / 2) * F.normalize(p) for p in (x, y))
    far = torch.cdist(u, v).square() / torch.outer(1 - u.square().sum(1), 1 - v.square().sum(1))
    return torch.acosh(1 + 2 * far) / math.sqrt(c)


def direct(metric: str, x: Tensor, y: Tensor, c: float) -> Tensor:
    """Scores by the formula that each is named after."""
    if metric == "inner":
        return x @ y.T
    if metric == "elliptic":
        return -torch.acos(F.normalize(x) @ F.normalize(y).T)
    far = poincare(x, y, c) if metric.startswith("hyperbolic") else torch.cdist(x, y)
    if metric == "hyperbolic_inner":
        return -torch.cosh(math.sqrt(c) * far) / c
    return -far.square() if metric.endswith("squared") else -far


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_scores_of_inner_products_are_those_of_the_metric(
    metric: str, dtype: torch.dtype, near: float
) -> None:
    lifted = Lifted(metric, 0.5, 0.8, 0.7)
    x, y = rows()
    products = lifted.image(x.to(dtype)) @ lifted.text(y.to(dtype)).T
    assert products.dtype == dtype
    expected = direct(metric, 0.5 * x, 0.8 * y, 0.7)
    torch.testing.assert_close(lifted.scores(products).double(), expected, rtol=near, atol=near)
    assert torch.equal(products.argsort(1), expected.argsort(1))
    assert torch.equal(products.argsort(0), expected.argsort(0))
    if metric in EXACT:
        torch.testing.assert_close(products.double(), expected, rtol=near, atol=near)


@pytest.mark.parametrize("metric", EXACT)
def test_several_prompts_have_the_mean_of_their_scores(metric: str) -> None:
    lifted = Lifted(metric, curvature=0.7)
    x, y = rows()
    classes = lifted.ensembled(lifted.text(y).mean(0, keepdim=True))
    found = lifted.scores(lifted.image(x) @ classes.T)
    torch.testing.assert_close(found[:, 0], direct(metric, x, y, 0.7).mean(1))


def test_the_released_mean_embedding_is_nearer_by_the_scatter_of_the_prompts() -> None:
    x, y = rows()
    lifted = Lifted()
    ours = lifted.image(x) @ lifted.text(y).mean(0)
    released = -(x - y.mean(0)).square().sum(1)
    scatter = (y - y.mean(0)).square().sum(1).mean()
    torch.testing.assert_close(released - ours, scatter.expand(7))
    assert scatter > 1


def test_the_cosine_is_what_it_was() -> None:
    x, _ = rows(torch.float32)
    cosine = Cosine()
    assert torch.equal(cosine.image(x), F.normalize(x, dim=-1))
    assert torch.equal(cosine.text(x), F.normalize(x, dim=-1))
    assert torch.equal(cosine.ensembled(x), F.normalize(x, dim=-1))
    assert cosine.scores(x) is x
    assert cosine.settings() == {}


def test_far_points_and_the_origin_are_finite() -> None:
    x = torch.tensor([[0.0, 0.0], [1e6, 1.0], [0.0, 1e-30]])
    lifted = Lifted("hyperbolic")
    products = lifted.image(x) @ lifted.text(x).T
    assert products.isfinite().all()
    assert lifted.scores(products).isfinite().all()
    assert lifted.scores(products)[0, 0] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "cosine"},
        {"image_scale": 0.0},
        {"text_scale": math.inf},
        {"curvature": -1.0},
        {"curvature": math.nan},
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Lifted(**options)


def test_it_is_written_beside_a_model_and_read_back(tmp_path: Path) -> None:
    write_similarity(tmp_path, Cosine())
    assert not list(tmp_path.iterdir())
    assert read_similarity(tmp_path) == Cosine()
    lifted = Lifted("hyperbolic", 0.1, 0.2, 3.0)
    write_similarity(tmp_path, lifted)
    assert read_similarity(tmp_path) == lifted


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"metric": "cosine"}', '{"radius": 1}', '{"curvature": null}']
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "similarity.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"similarity\.json cannot be read .* remove it"):
        read_similarity(tmp_path)


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return _tiny.encoder()


def lifted_of(encoder: ClipEncoder, metric: str = "euclidean_squared") -> ClipEncoder:
    return ClipEncoder(encoder.architecture, similarity=Lifted(metric, 0.2, 0.2))


def test_raw_embeddings_are_those_of_the_towers(encoder: ClipEncoder) -> None:
    pixels, tokens = _tiny.pictures(encoder.architecture), encoder.tokenizer(TEXTS)
    raw = encoder.raw()
    with torch.no_grad():
        image, text = encoder.model.encode_image(pixels), encoder.model.encode_text(tokens)
    assert torch.equal(raw.encode_image(pixels), image)
    torch.testing.assert_close(raw.encode_text(tokens), text)
    assert (image.norm(dim=1) - 1).abs().min() > 0.05
    assert raw.model is encoder.model
    torch.testing.assert_close(
        raw.encode_text(tokens).div(text.norm(dim=1, keepdim=True)), encoder.encode_text(tokens)
    )
    torch.testing.assert_close(raw.patch_features(pixels).features, encoder.patch_features(pixels).features)
    assert encoder.similarity == Cosine()


def test_unit_gives_the_model_of_cosines_back(encoder: ClipEncoder) -> None:
    pixels = _tiny.pictures(encoder.architecture)
    assert encoder.unit() is encoder
    for other in (encoder.raw(), lifted_of(encoder)):
        assert torch.equal(other.unit().encode_image(pixels), encoder.encode_image(pixels))


def test_each_similarity_keeps_its_embeddings_under_its_own_key(encoder: ClipEncoder) -> None:
    every = encoder, encoder.raw(), lifted_of(encoder), lifted_of(encoder, "inner")
    keys = [_key.model_key(each) for each in every]
    assert len(set(keys)) == 4
    assert _key.model_key(encoder.raw().unit()) == keys[0]

    class Older:
        """An encoder from before there were similarities."""

        similarity = None

        def __getattr__(self, name: str) -> Any:
            return getattr(encoder, name)

    assert _key.model_key(Older()) == keys[0]


def test_a_transformers_model_has_raw_embeddings_too(tmp_path: Path) -> None:
    from tests.models._hugging_face import write

    pytest.importorskip("transformers")
    from patchclip.models.towers import load

    found = load(write("clip", tmp_path / "clip"), device="cpu")
    tokens = found.tokenizer(["a red dog", "two houses"])
    raw = found.raw().encode_text(tokens)
    assert (raw.norm(dim=1) - 1).abs().min() > 0.05
    torch.testing.assert_close(F.normalize(raw, dim=-1), found.encode_text(tokens))
    pixels = torch.stack([found.preprocess(Image.linear_gradient("L").convert("RGB"))])
    torch.testing.assert_close(
        F.normalize(found.raw().encode_image(pixels), dim=-1), found.encode_image(pixels)
    )


def test_scores_of_a_lifted_encoder_are_distances(encoder: ClipEncoder) -> None:
    pixels, tokens = _tiny.pictures(encoder.architecture, 4), encoder.tokenizer(TEXTS)
    found = lifted_of(encoder)
    raw = encoder.raw()
    far = torch.cdist(0.2 * raw.encode_image(pixels), 0.2 * raw.encode_text(tokens)).square()
    torch.testing.assert_close(
        found.encode_image(pixels) @ found.encode_text(tokens).T, -far, rtol=1e-4, atol=1e-5
    )


def coloured() -> Classification:
    """Six images of three classes with two prompts each, and seven to learn from."""
    splits: dict[str, Classification] = {}
    for name, count in (("test", 6), ("train", 7)):
        some = np.arange(count) % 3
        splits[name] = Classification(
            "fake", FakeImages(count), some, ("red", "green", "blue"), ("{c}", "a {c}"), opener=splits.get
        )
    return splits["test"]


def test_classes_and_calibration_follow_the_metric(encoder: ClipEncoder) -> None:
    benchmark = coloured()
    found = lifted_of(encoder, "euclidean")
    embedder = Embedder(found)
    raw = encoder.raw().encode_text(encoder.tokenizer(["red", "a red"]))
    torch.testing.assert_close(embedder.classes(benchmark)[0], found.similarity.text(raw).mean(0))
    [result] = ClassificationSuite().results(embedder, [benchmark])
    images = embedder.images(benchmark.images, "fake").embeddings
    scores = -(-(images @ embedder.classes(benchmark).T)).clamp(min=0).sqrt()
    sure = (scores * embedder.scale).softmax(1).amax(1)
    right = scores.argmax(1) == torch.arange(6) % 3
    assert "highest mean score by euclidean" in result.protocol
    assert result.metrics["acc1"] == pytest.approx(right.float().mean().item())
    bins = (sure * 15).ceil().clamp(min=1)
    gaps = [(right[bins == b].float() - sure[bins == b]).sum().abs() for b in bins.unique()]
    assert result.metrics["ece"] == pytest.approx(float(sum(gaps)) / 6, abs=1e-5)


def test_probes_patches_and_labels_use_unit_vectors(encoder: ClipEncoder) -> None:
    found = lifted_of(encoder)
    splits = embed_splits(Embedder(found), coloured())
    expected = embed_splits(Embedder(encoder), coloured())
    assert splits is not None
    assert expected is not None
    assert torch.equal(splits.train.features, expected.train.features)
    labels = ["red", "green"]
    assert torch.equal(vocabulary(found, labels).texts, vocabulary(encoder, labels).texts)
    suite = ClassificationSuite(by="patches")
    [ours], [theirs] = (suite.results(Embedder(each), [coloured()]) for each in (found, encoder))
    assert ours.metrics == theirs.metrics


def test_the_distance_to_the_origin_is_that_of_the_geometry() -> None:
    x, _ = rows()
    nothing = torch.zeros(1, 6, dtype=torch.float64)
    for metric in ("euclidean", "hyperbolic"):
        lifted = Lifted(metric, 0.3, 0.6, 0.7)
        apart = -lifted.scores(lifted.image(x) @ lifted.text(nothing).T)[:, 0]
        torch.testing.assert_close(origin_distance(x, lifted, "image"), apart, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(origin_distance(x, lifted), 2 * apart, rtol=1e-6, atol=1e-6)
    assert torch.equal(origin_distance(x, Raw()), x.norm(dim=1))


@pytest.mark.parametrize("directions", [Cosine(), Lifted("elliptic")])
def test_directions_have_no_hierarchy(directions: Any) -> None:
    with pytest.raises(ConfigError, match="at distance 1 from the origin"):
        origin_distance(torch.ones(1, 2), directions)
    with pytest.raises(ConfigError, match="must be image or text"):
        origin_distance(torch.ones(1, 2), Raw(), "patch")


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    write_similarity(tmp_path, Lifted("euclidean_squared", 0.25, 0.25))
    content = json.loads((tmp_path / "similarity.json").read_text())
    assert content == {
        "metric": "euclidean_squared",
        "image_scale": 0.25,
        "text_scale": 0.25,
        "curvature": 1.0,
    }
