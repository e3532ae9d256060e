from dataclasses import replace

import pytest
import torch

from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.evaluation.paraphrase import PARAPHRASES, agreeing, own_wordings, paraphrase_result
from tests.evaluation._fakes import TableEncoder, labelled

NAMES = ("cat", "dog")
TEMPLATES = ("my {c}", "your {c}")


def table(swapped: tuple[str, ...]) -> TableEncoder:
    """Right for every wording but the swapped ones, with which it takes cats for dogs and dogs for cats."""
    texts = {}
    for wording in (*PARAPHRASES, *TEMPLATES):
        for i, name in enumerate(NAMES):
            texts[wording.replace("{c}", name)] = torch.eye(2)[1 - i if wording in swapped else i]
    return TableEncoder(torch.eye(2)[[0, 1, 1]], texts)


def metrics(encoder: TableEncoder, templates: tuple[str, ...] = TEMPLATES) -> dict[str, float]:
    benchmark = labelled([0, 1, 1], NAMES, templates)
    return paraphrase_result(Embedder(encoder, Encoding(batch_size=2)), benchmark).metrics


def test_wordings_that_say_the_same_agree() -> None:
    found = metrics(table(()))
    assert [found[n] for n in ("acc1_mean", "acc1_std", "acc1_worst", "agreement")] == [1, 0, 1, 1]
    assert found["templates_agreement"] == 1


def test_a_quarter_of_the_wordings_swaps_the_classes() -> None:
    found = metrics(table(PARAPHRASES[:2]))
    assert [found[n] for n in ("acc1_mean", "acc1_worst", "agreement")] == [0.75, 0, 0]
    assert found["acc1_std"] == pytest.approx((0.75 * 0.25) ** 0.5)
    assert found["templates_acc1_mean"] == 1


def test_a_set_s_own_templates_are_asked_one_by_one() -> None:
    found = metrics(table(TEMPLATES[1:]))
    assert found["templates_acc1_mean"] == 0.5
    assert found["templates_acc1_worst"] == 0
    assert found["templates_agreement"] == 0
    assert found["agreement"] == 1
    assert not any(name.startswith("templates_") for name in metrics(table(()), TEMPLATES[:1]))


def test_a_collapsed_model_is_never_right_and_never_agrees() -> None:
    encoder = table(())
    encoder.images = torch.ones(3, 2)
    found = metrics(encoder)
    assert (found["acc1_mean"], found["agreement"]) == (0, 0)


def test_outcomes_are_kept_by_image_and_unreadable_ones_left_out() -> None:
    benchmark = labelled([0, 1, 1], NAMES, TEMPLATES, broken={1: "cut short"})
    found = paraphrase_result(Embedder(table(PARAPHRASES[:2]), Encoding(batch_size=2)), benchmark)
    assert found.samples["acc1_mean"].group.tolist() == [0, 2]
    assert found.samples["acc1_mean"].values.tolist() == [0.75, 0.75]
    assert (found.images, len(found.bad)) == (2, 1)
    assert (
        found.protocol
        == "zero-shot top-1 on 2 of 3 images with one prompt a class, for each of 10 wordings in turn"
    )
    assert [row["acc1"] for row in found.details["wordings"][:3]] == [0, 0, 1]


def test_undecided_choices_agree_with_nothing() -> None:
    assert agreeing(torch.tensor([[0, -1, 2], [0, -1, 1]])).tolist() == [True, False, False]


def test_own_wordings_are_spread_and_at_most_eight() -> None:
    many = tuple(f"{i} {{c}}" for i in range(80))
    assert own_wordings(many) == [many[5 + 10 * i] for i in range(8)]
    assert own_wordings(("{c}", "{c}")) == []
    assert own_wordings({"cat": ("a cat", "one cat"), "dog": ("a dog", "one dog")}) == [0, 1]
    assert own_wordings({"cat": ("a cat",), "dog": ("a dog", "one dog")}) == []


def test_prompts_of_each_class_are_wordings_too() -> None:
    own = {name: tuple(t.replace("{c}", name) for t in TEMPLATES) for name in NAMES}
    benchmark = replace(labelled([0, 1, 1], NAMES), templates=own)
    found = paraphrase_result(Embedder(table(TEMPLATES[:1]), Encoding(batch_size=2)), benchmark)
    assert found.metrics["templates_acc1_mean"] == 0.5
    assert found.details["wordings"][-1] == {"wording": "prompt 2 of each class", "acc1": 1.0, "own": True}
