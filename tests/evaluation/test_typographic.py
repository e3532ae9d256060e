import numpy as np
import pytest
from PIL import Image

from patchclip.data.benchmarks import load_benchmark
from patchclip.data.sets import Classification
from patchclip.errors import DataError
from patchclip.evaluation.corruption.views import SIZE
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.evaluation.result import Result
from patchclip.evaluation.typographic import Written, typographic_result, written, wrong_labels
from tests.evaluation._colours import COLOURS, ColourEncoder, ColourImages


def colours(count: int = 6) -> Classification:
    labels = np.arange(count, dtype=np.int64) % 2
    return Classification("colours", ColourImages(count), labels, tuple(COLOURS), ("{c}",))


def attacked(encoder: ColourEncoder, indices: list[int]) -> Result:
    return typographic_result(Embedder(encoder, Encoding(batch_size=4)), colours(), indices)


def test_a_model_that_does_not_read_is_not_fooled() -> None:
    found = attacked(ColourEncoder(), [0, 2, 3]).metrics
    assert found == {"acc1": 1, "acc1_clean": 1, "fooled": 0, "fooled_clean": 0, "drop": 0}


def test_a_model_that_trusts_labels_is_fooled() -> None:
    found = attacked(ColourEncoder(misled=True), [0, 2, 3])
    assert found.metrics == {"acc1": 0, "acc1_clean": 1, "fooled": 1, "fooled_clean": 0, "drop": 1}
    assert found.samples["fooled"].group.tolist() == [0, 2, 3]
    assert (found.images, found.classes, found.task) == (3, 2, "typographic")
    assert found.chance["acc1"] == 0.5
    assert found.protocol == "zero-shot top-1, a wrong class name printed on 3 of 6 images"


def test_a_collapsed_model_counts_as_fooled() -> None:
    found = attacked(ColourEncoder(collapsed=True), [0, 1]).metrics
    assert found == {"acc1": 0, "acc1_clean": 0, "fooled": 1, "fooled_clean": 1, "drop": 0}


def test_a_label_without_a_class_is_refused() -> None:
    benchmark = colours()
    benchmark.labels[5] = 7
    with pytest.raises(DataError, match="label 7"):
        typographic_result(Embedder(ColourEncoder()), benchmark, [0])


def test_the_word_is_another_name_and_fixed_by_the_number() -> None:
    names, labels = ("cat", "Cat ", "dog", "owl"), [0, 1, 2, 3] * 50
    found = wrong_labels(names, labels)
    assert all(
        names[w].strip().lower() != names[r].strip().lower() for w, r in zip(found, labels, strict=True)
    )
    assert {w for w, r in zip(found, labels, strict=True) if r == 2} == {0, 1, 3}
    assert found[:10] == wrong_labels(names, labels[:10])
    assert wrong_labels(("cat", "CAT"), [0, 1]) == [-1, -1]


def test_the_label_lies_on_a_photograph_and_leaves_the_rest() -> None:
    image = load_benchmark("samples", "zs_photo").images[0].resize((SIZE, SIZE))
    found = written(image, "red apple", np.random.default_rng(0))
    changed = (np.asarray(found) != np.asarray(image)).any(2)
    rows, columns = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
    box = np.asarray(found)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert 0.02 < changed.mean() < 0.3
    assert (box == 255).all(2).mean() > 0.5
    assert (box == 0).all(2).any()


def test_the_same_number_gives_the_same_pixels_elsewhere_for_another() -> None:
    view, image = Written(("fish", "fish")), Image.new("RGB", (90, 60), (9, 90, 9))
    once, again, other = (np.asarray(view(image, i)) for i in (0, 0, 1))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert Written(("fish", "bird")).name != view.name


@pytest.mark.parametrize(
    "word", ["", "w" * 80, "piñata", "two\nlines"], ids=["none", "long", "accent", "lines"]
)
@pytest.mark.parametrize("size", [(1, 1), (20, 700)])
def test_any_word_and_any_image_will_do(word: str, size: tuple[int, int]) -> None:
    found = Written((word,))(Image.new("L", size, 7), 0)
    assert (found.mode, found.size) == ("RGB", (SIZE, SIZE))
