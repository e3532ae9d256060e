import json
from math import comb, nan

import pytest
import torch

from patchclip.data.sets import Retrieval
from patchclip.errors import DataError
from patchclip.evaluation.result import Result
from patchclip.evaluation.suites.retrieval import RetrievalSuite

from ._fakes import TableEncoder, captioned, score


def retrieval(encoder: TableEncoder, data: Retrieval, batch_size: int = 128) -> Result:
    return score(RetrievalSuite(), encoder, data, batch_size)


def recalls(result: Result) -> dict[str, float]:
    return {name: value for name, value in result.metrics.items() if "recall" in name}


def test_several_captions_by_hand() -> None:
    """Similarities: rows are captions a0 a1 b0 c0, columns images a b c."""
    texts = {
        "a0": torch.tensor([0.9, 0.1, 0.2]),  # image a first
        "a1": torch.tensor([0.3, 0.8, 0.1]),  # image a second
        "b0": torch.tensor([0.7, 0.5, 0.6]),  # image b third
        "c0": torch.tensor([0.1, 0.2, 0.4]),  # image c first
    }
    result = retrieval(TableEncoder(torch.eye(3), texts), captioned([("a0", "a1"), ("b0",), ("c0",)]), 2)
    # image -> caption: a takes a0 (right), b takes a1 before b0, c takes b0 before c0
    assert recalls(result) == pytest.approx(
        {"image_retrieval_recall@1": 2 / 4, "text_retrieval_recall@1": 1 / 3}
    )
    # ranks of captions 1 2 3 1, of images 1 2 2
    assert result.metrics["image_retrieval_mean_rank"] == pytest.approx(7 / 4)
    assert result.metrics["text_retrieval_median_rank"] == 2
    assert result.metrics["image_retrieval_median_rank"] == 1.5
    assert result.samples["image_retrieval_recall@1"].group.tolist() == [0, 0, 1, 2]
    chance = (1 - comb(2, 1) / comb(4, 1) + 2 * (1 - comb(3, 1) / comb(4, 1))) / 3
    assert result.chance == pytest.approx(
        {"image_retrieval_recall@1": 1 / 3, "text_retrieval_recall@1": chance}
    )
    assert (result.images, result.captions, result.classes) == (3, 4, 0)
    assert result.details["caption_to_images"][2] == {
        "caption": "b0",
        "image": 1,
        "top": [0, 2, 1],
        "rank": 3,
    }
    assert result.details["image_to_captions"][1]["top"][:2] == [["a1", False], ["b0", True]]


def many(
    count: int = 12, broken: dict[int, str] | None = None, without: tuple[int, ...] = ()
) -> tuple[TableEncoder, Retrieval]:
    rows = torch.eye(count)
    encoder = TableEncoder(rows, {f"t{i}": rows[i] for i in range(count)})
    return encoder, captioned([() if i in without else (f"t{i}",) for i in range(count)], broken)


def test_perfect_model() -> None:
    result = retrieval(*many())
    assert len(recalls(result)) == 6
    assert set(result.metrics.values()) == {1.0}
    assert result.clip_benchmark == {}
    assert result.chance["image_retrieval_recall@5"] == pytest.approx(5 / 12)
    assert [row["image"] for row in result.details["caption_to_images"]] == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize("value", [0.0, 1.0, nan])
def test_collapsed_model_finds_nothing(value: float) -> None:
    encoder, data = many()
    encoder.images = torch.full((12, 12), value)
    encoder.texts = dict.fromkeys(encoder.texts, torch.full((12,), value))
    result = retrieval(encoder, data)
    assert set(recalls(result).values()) == {0.0}
    assert result.metrics["image_retrieval_median_rank"] >= 12
    assert result.clip_benchmark["image_retrieval_recall@5"] == pytest.approx(5 / 12)
    json.dumps(result.to_json(), allow_nan=False)


def test_unreadable_image_takes_its_captions_along_and_keeps_numbers() -> None:
    result = retrieval(*many(broken={0: "broken"}))
    assert (result.images, result.captions, len(result.bad)) == (11, 11, 1)
    assert result.metrics["image_retrieval_recall@1"] == 1.0
    assert all(row["top"][0] == row["image"] for row in result.details["caption_to_images"])


def test_image_without_caption_is_searched_but_does_not_search() -> None:
    result = retrieval(*many(3, without=(1,)))
    assert (result.images, result.captions) == (3, 2)
    assert result.metrics["text_retrieval_recall@1"] == 1.0
    assert result.chance["image_retrieval_recall@1"] == pytest.approx(1 / 3)
    assert result.chance["text_retrieval_recall@1"] == pytest.approx(1 / 2)
    assert [row["image"] for row in result.details["image_to_captions"]] == [0, 2]


def test_k_above_the_gallery_is_absent() -> None:
    assert set(recalls(retrieval(*many(7)))) == {
        f"{kind}_retrieval_recall@{k}" for kind in ("image", "text") for k in (1, 5)
    }


def test_a_set_without_captions_is_an_error() -> None:
    with pytest.raises(DataError, match="3 images have no caption"):
        retrieval(many(3)[0], captioned([(), (), ()]))
