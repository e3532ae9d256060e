"""GDA against scikit-learn's LDA, the released arithmetic, its limits and its laws."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from patchclip.adapt.methods._gaussian import check
from patchclip.adapt.methods.gda import GDA, GRID
from patchclip.errors import CheckpointError, ConfigError, DataError
from tests.adapt._gaussians import gaussians


def released_precision(left: Tensor) -> Tensor:
    """What main_few_shots.py computes of the images without their class means."""
    n, e = left.shape
    spread = left.T.cov()
    eye = torch.eye(e, dtype=left.dtype)
    return e * torch.linalg.pinv((n - 1) * spread + spread.trace() * eye)


def centred(features: Tensor, labels: Tensor) -> Tensor:
    return torch.cat([features[labels == k] - features[labels == k].mean(0) for k in labels.unique()])


class Fixed:
    """A covariance estimator that has one answer."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def fit(self, rows: object) -> "Fixed":
        self.covariance_ = self.matrix.numpy()
        return self


@pytest.mark.parametrize(
    "classes, each, shrinkage", [(2, 30, "ks"), (5, 9, "ks"), (4, 2, "ks"), (2, 30, "none"), (5, 9, "none")]
)
def test_equal_to_scikit_learns_lda_with_the_same_covariance(classes: int, each: int, shrinkage: str) -> None:
    features, labels, texts = gaussians(classes, 6, each, seed=classes)
    left = centred(features, labels)
    covariance = left.T.cov() if shrinkage == "none" else torch.linalg.inv(released_precision(left))
    theirs = LinearDiscriminantAnalysis(
        solver="lsqr", priors=[1 / classes] * classes, covariance_estimator=Fixed(covariance)
    ).fit(features.numpy(), labels.numpy())
    state = GDA(alpha=1.0, shrinkage=shrinkage).fit(features, labels, texts).state_dict()
    if classes > 2:  # of two classes scikit-learn keeps the difference
        torch.testing.assert_close(state["weight"], torch.from_numpy(theirs.coef_), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(state["bias"], torch.from_numpy(theirs.intercept_), rtol=1e-6, atol=1e-6)
    ours = GDA(alpha=1.0, shrinkage=shrinkage).fit(features, labels, texts, scale=0.0)
    assert ours.predict(features).tolist() == theirs.predict(features.numpy()).tolist()


def test_equal_to_the_released_few_shot_arithmetic() -> None:
    features, labels, texts = gaussians(5, 8, 7, seed=3)
    features, texts = F.normalize(features, dim=-1), F.normalize(texts, dim=-1)
    means = torch.stack([features[labels == k].mean(0) for k in range(5)])
    precision = released_precision(centred(features, labels))
    weight = torch.einsum("nd, dc -> cn", means, precision)
    bias = torch.full((5,), 1 / 5, dtype=torch.float64).log()
    bias = bias - torch.einsum("nd, dc, nc -> n", means, precision, means) / 2
    expected = 100 * features @ texts.T + 0.1 * (features @ weight + bias)
    found = GDA(alpha=0.1).fit(features, labels, texts).decision_function(features)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_without_shrinkage_an_affine_map_of_the_space_changes_nothing() -> None:
    features, labels, texts = gaussians(3, 5, 30)
    generator = torch.Generator().manual_seed(9)
    stretch = torch.randn(5, 5, generator=generator, dtype=torch.float64) + 3 * torch.eye(5)
    moved = features @ stretch.T + 7
    plain, turned = (GDA(alpha=1.0, shrinkage="none").fit(x, labels, texts, 0.0) for x in (features, moved))
    mine, theirs = plain.decision_function(features), turned.decision_function(moved)
    # each image's scores may all move by one number: that of the quadratic term
    torch.testing.assert_close(mine - mine[:, :1], theirs - theirs[:, :1], rtol=1e-6, atol=1e-6)
    shrunk = [GDA(alpha=1.0).fit(x, labels, texts, 0.0).decision_function(x) for x in (features, moved)]
    assert not torch.allclose(shrunk[0] - shrunk[0][:, :1], shrunk[1] - shrunk[1][:, :1], rtol=1e-3)


def test_alpha_0_is_zero_shot_and_a_large_one_gda_alone() -> None:
    features, labels, texts = gaussians(4, 6, 10)
    texts = texts.roll(1, 0)  # texts that mislead
    found = GDA(alpha=0.0).fit(features, labels, texts, 14.0).decision_function(features)
    assert torch.equal(found, 14.0 * features @ texts.T)
    alone = GDA(alpha=1.0).fit(features, labels, texts, 0.0).predict(features)
    assert torch.equal(GDA(alpha=1e6).fit(features, labels, texts, 14.0).predict(features), alone)
    assert float((alone == labels).double().mean()) > 0.9


def test_on_gaussians_the_error_is_bayes() -> None:
    features, labels, means = gaussians(2, 3, 4000, seed=5, apart=0.7)
    left = centred(features, labels)
    gap = means[0] - means[1]
    distance = float((gap @ torch.linalg.inv(left.T.cov()) @ gap).sqrt())
    bayes = 0.5 * (1 - torch.erf(torch.tensor(distance / 2 / 2**0.5))).item()
    guesses = GDA(alpha=1.0).fit(features, labels, means, 0.0).predict(features)
    error = float((guesses != labels).double().mean())
    assert 0.02 < bayes < 0.4
    assert error == pytest.approx(bayes, abs=0.015)


def test_alpha_is_chosen_on_validation_images_the_first_of_equals() -> None:
    features, labels, texts = gaussians(4, 6, 10)
    validation = (features[::3], labels[::3])
    right = []
    for alpha in GRID:
        guesses = GDA(alpha=alpha).fit(features, labels, texts.roll(1, 0), 50.0).predict(validation[0])
        right.append(int((guesses == validation[1]).sum()))
    fitted = GDA().fit(features, labels, texts.roll(1, 0), 50.0, validation)
    assert float(fitted.state_dict()["alpha"]) == GRID[right.index(max(right))]
    assert len(set(right)) > 1
    features, labels, means = gaussians(4, 6, 10, apart=20.0)
    easy = F.normalize(features, dim=-1), labels  # every alpha is right
    texts = F.normalize(means, dim=-1)
    assert float(GDA().fit(*easy, texts, 50.0, easy).state_dict()["alpha"]) == 1e-4


@pytest.mark.parametrize("validation", [None, (torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))])
def test_without_validation_images_alpha_is_a_tenth(validation: tuple[Tensor, Tensor] | None) -> None:
    features, labels, texts = gaussians()
    assert float(GDA().fit(features, labels, texts, 10.0, validation).state_dict()["alpha"]) == 0.1


def test_new_classes_are_made_of_the_images_nearest_to_their_text() -> None:
    features, labels, texts = gaussians(5, 6, 12, seed=2)
    features, texts = F.normalize(features, dim=-1), F.normalize(texts, dim=-1)
    seen = labels < 3
    k, repeats = 9, 4
    found = (
        GDA(alpha=1.0, neighbours=k, repeats=repeats).fit(features[seen], labels[seen], texts).state_dict()
    )
    means, precisions = [], []
    for text in texts[3:]:  # main_base2new.py
        near = features[seen][(text @ features[seen].T).topk(k).indices]
        means.append(torch.cat([near, text[None].repeat(repeats, 1)]).mean(0))
        spread = (near - text).T @ (near - text) / (k - 1)
        inner = (k - 1) * spread + spread.trace() * torch.eye(6, dtype=torch.float64)
        precisions.append(6 * torch.linalg.pinv(inner))
    shared = torch.stack(precisions).mean(0)
    expected = torch.stack(means) @ shared
    torch.testing.assert_close(found["weight"][3:], expected, rtol=1e-8, atol=1e-8)
    bias = -torch.tensor(5.0, dtype=torch.float64).log() - (expected * torch.stack(means)).sum(1) / 2
    torch.testing.assert_close(found["bias"][3:], bias, rtol=1e-8, atol=1e-8)
    alone = GDA(alpha=1.0).fit(features[seen], labels[seen], texts[:3]).state_dict()
    torch.testing.assert_close(found["weight"][:3], alone["weight"])


def test_released_base_to_new_code_has_another_precision_and_none_for_one_image() -> None:
    features, labels, texts = gaussians(3, 6, 8)
    covariances = torch.stack([features[labels == k].T.cov() for k in range(3)])
    released = torch.linalg.pinv(covariances.mean(0))
    ours = released_precision(centred(features, labels))
    assert not torch.allclose(released / released.trace(), ours / ours.trace(), rtol=0.05)
    with pytest.warns(UserWarning, match="degrees of freedom"):
        assert features[:1].T.cov().isnan().all()  # a class of one image
    keep = torch.cat([torch.tensor([0]), torch.arange(8, 24)])
    found = GDA(alpha=1.0).fit(features[keep], labels[keep], texts)
    assert found.decision_function(features).isfinite().all()


def test_fewer_images_than_neighbours_and_than_dimensions() -> None:
    features, labels, texts = gaussians(4, 32, 2)
    seen = labels < 3
    found = GDA(alpha=1.0).fit(features[seen], labels[seen], texts, 10.0).decision_function(features)
    assert found.isfinite().all()


def test_one_image_a_class_has_no_spread() -> None:
    features, labels, texts = gaussians(4, 6, 1)
    with pytest.raises(DataError, match="a class with two different images"):
        GDA().fit(features, labels, texts)
    with pytest.raises(DataError, match="a class with two different images"):
        GDA().fit(features.repeat(3, 1), labels.repeat(3), texts)
    views = torch.cat([features, features + 0.1 * features.roll(1, 1)])
    assert GDA().fit(views, labels.repeat(2), texts).predict(features).shape == (4,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_computed_in_float64(dtype: torch.dtype) -> None:
    features, labels, texts = gaussians(3, 8, 12)
    rows = F.normalize(features, dim=-1).to(dtype)
    found = GDA(alpha=100.0).fit(rows, labels, texts.to(dtype)).decision_function(rows)
    wide = (
        GDA(alpha=100.0).fit(rows.double(), labels, texts.to(dtype).double()).decision_function(rows.double())
    )
    assert found.dtype is torch.float32
    torch.testing.assert_close(found.double(), wide, rtol=1e-6, atol=1e-3)


def test_the_state_goes_into_another_one() -> None:
    features, labels, texts = gaussians()
    fitted, other = GDA(alpha=2.0).fit(features, labels, texts, 9.0), GDA()
    with pytest.raises(ConfigError, match="call fit"):
        other.predict(features)
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other.decision_function(features), fitted.decision_function(features))
    with pytest.raises(CheckpointError, match="another method's file"):
        other.load_state_dict({"weight": features})


@pytest.mark.parametrize(
    "options",
    [{"alpha": -1.0}, {"alpha": float("nan")}, {"shrinkage": "oas"}, {"neighbours": 1}, {"repeats": -1}],
)
def test_other_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        GDA(**options)  # type: ignore[arg-type]


def test_images_to_choose_on_are_checked_too() -> None:
    features, labels, texts = gaussians()
    broken = features.clone()
    broken[3, 2] = float("nan")
    for chosen, words in (
        ((broken, labels), "validation images of width .* finite"),
        ((features[:, :-1], labels), "validation images of width"),
        ((features, labels + len(texts)), "validation images must be one each"),
        ((features, labels[:0]), "0 labels for .* validation images must be one each"),
        ((features[:0], labels), "0 validation images"),
    ):
        for alpha in (None, 1.0):
            with pytest.raises(DataError, match=words):
                GDA(alpha).fit(features, labels, texts, 10.0, chosen)
    none = GDA().fit(features, labels, texts, 10.0, (features[:0], labels[:0]))
    assert float(none.state_dict()["alpha"]) == 0.1


def test_no_labels_are_told_as_such() -> None:
    features, labels, texts = gaussians()
    with pytest.raises(DataError, match=r"0 labels for .* images must be one each"):
        check(features, labels[:0], texts)


def test_what_cannot_be_learned_from_is_named() -> None:
    features, labels, texts = gaussians()
    broken = features.clone()
    broken[3, 2] = float("nan")
    for rows, told, words in (
        (broken, labels, "finite"),
        (features[:0], labels[:0], "there must be images"),
        (features, labels + 1, r"\[1, 4\]"),
    ):
        with pytest.raises(DataError, match=words):
            GDA().fit(rows, told, texts)
