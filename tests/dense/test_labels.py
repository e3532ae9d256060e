"""Labels, synonyms, prompts and words for the background: what is asked, what is refused."""

import logging
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.dense import labels as module
from patchclip.dense._stuff import STUFF, background_names
from patchclip.dense.labels import PROMPTS, Vocabulary, check_rows, checked, encode, templates_of, vocabulary
from patchclip.errors import ConfigError
from tests.models import _tiny


class Counter:
    """Embeds a text as what its letters are; notes the batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def tokenizer(self, texts: list[str]) -> Tensor:
        return torch.tensor([[len(text), sum(map(ord, text)) % 97, ord(text[-1])] for text in texts])

    def encode_text(self, tokens: Tensor) -> Tensor:
        self.batches.append(len(tokens))
        return F.normalize(tokens.float() + 1, dim=-1)


def test_names_of_labels_then_of_the_background() -> None:
    found = vocabulary(Counter(), [("cat", "kitten"), "dog"], "plain", ("sky", "cat", "wall", "sky"))
    assert found.labels == ("cat", "dog")
    assert found.names == ("cat", "kitten", "dog", "sky", "wall"), (
        "a label is no background, no word is twice"
    )
    assert found.owner.tolist() == [1, 1, 2, 0, 0]
    assert torch.allclose(found.texts.norm(dim=-1), torch.ones(5))


def test_a_label_scores_as_its_best_name() -> None:
    words = Vocabulary(("a", "b"), ("a", "c", "b", "sky"), torch.tensor([1, 1, 2, 0]), torch.eye(4), ("{}",))
    scores = torch.tensor([[1.0, -5.0], [2.0, -7.0], [3.0, -9.0], [9.0, 9.0]])
    assert words.of_labels(scores).tolist() == [[2.0, -5.0], [3.0, -9.0]]


def test_prompts_are_averaged_as_unit_vectors_and_normalised_again() -> None:
    encoder = Counter()
    found = encode(encoder, ["cat", "lion"], ("a {}.", "the {c}"))
    for row, name in zip(found, ("cat", "lion"), strict=True):
        each = encoder.encode_text(encoder.tokenizer([f"a {name}.", f"the {name}"]))
        assert torch.allclose(row, F.normalize(each.mean(0), dim=-1))


def test_ten_thousand_labels_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Counter()
    found = vocabulary(encoder, [f"label {i}" for i in range(10_000)], "pacl7", ())
    assert found.texts.shape == (10_000, 3)
    assert max(encoder.batches) <= module.TEXTS
    assert sum(encoder.batches) == 70_000
    monkeypatch.setattr(module, "TEXTS", 3)
    assert torch.allclose(vocabulary(encoder, ["label 0"], "pacl7", ()).texts, found.texts[:1])


def test_batches_change_nothing_for_a_real_text_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = _tiny.encoder()
    whole = encode(encoder, ["cat", "dog", "a green field of grass"], PROMPTS["tcl9"])
    monkeypatch.setattr(module, "TEXTS", 4)
    assert torch.allclose(
        encode(encoder, ["cat", "dog", "a green field of grass"], PROMPTS["tcl9"]), whole, atol=1e-5
    )


def test_named_sets() -> None:
    assert [len(templates_of(name)) for name in ("openai80", "pacl7", "tcl9", "photo", "plain")] == [
        *(80, 7, 9, 1, 1)
    ]
    whole = {template.replace("{c}", "{}") for template in templates_of("openai80")}
    assert set(PROMPTS["pacl7"]) < whole, "CLIP's own subset"
    assert templates_of("a sketch of a {}") == ("a sketch of a {}",)
    assert templates_of(("{c}",)) == ("{c}",)


@pytest.mark.parametrize(
    "prompts", ["openai8", "a photo of a cat", (), ("a {}", "a photo"), ("{}", 3), 5, None]
)
@pytest.mark.usefixtures("unchecked")
def test_bad_prompts(prompts: Any) -> None:
    with pytest.raises(ConfigError, match="prompt"):
        templates_of(prompts)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "0 labels"),
        (["cat", ""], "empty"),
        (["cat", "  "], "empty"),
        (["cat", ()], "label 2 has no name"),
        (["cat", "dog", "Cat "], "labels 1 and 3"),
        ([("cat", "kitten"), "kitten"], "labels 1 and 2"),
        (["x" * 201], "201 characters"),
        ("cat, dog", "must be a list"),
        (5, "labels=5 must be a list"),
        ({"cat"}, "must be a list"),
        (["cat", None], "label 2 is None"),
        (["cat", 1], "label 2 is 1"),
        (["cat", ("dog", 2)], "label 2 holds 2"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_labels(labels: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(labels)


def test_names_are_tidied() -> None:
    assert checked([" cat ", ("red  mug", "Red mug", "cup")]) == (("cat",), ("red mug", "cup"))


@pytest.mark.parametrize(
    ("label", "gone"),
    [
        ("sky", {"sky", "cloud"}),
        ("grass", {"grass"}),
        ("plants", {"grass", "tree", "bush"}),
        ("field of wheat", {"ground", "grass"}),
        ("brick wall", {"wall"}),
        ("wall clock", set()),
        ("cat", set()),
        ("beaches", {"sand"}),
    ],
)
def test_what_a_label_says_is_no_background(label: str, gone: set[str]) -> None:
    assert set(STUFF) - set(background_names({label, "dog"})) == gone


def test_the_general_list_competes_by_default() -> None:
    found = vocabulary(Counter(), ["cat", "grass"], "plain", None)
    assert set(found.names) == {"cat", *STUFF}
    assert int((found.owner == 0).sum()) == len(STUFF) - 1


LONG = "1 a " * 7


def test_names_that_fill_a_row_of_tokens_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Context 16 holds 14 tokens beside start and end: what fits beside them is no matter."""
    encoder = _tiny.encoder()
    with caplog.at_level(logging.WARNING):
        vocabulary(encoder, ["cat", "1 a " * 6 + "1"], "plain", ("sky",))
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        vocabulary(encoder, [("cat", LONG, "1 a " * 49)], ("{}", "{c}"), ("sky",))
    [message] = caplog.messages
    assert "2 names" in message
    assert repr(LONG.strip()) in message
    assert "all 16 tokens" in message


def test_names_that_read_the_same_are_refused() -> None:
    encoder = _tiny.encoder()
    for rest in ("X", "Y"):
        vocabulary(encoder, [LONG + rest], "plain", ())
    with pytest.raises(ConfigError, match=r"cannot be told apart.* 16 tokens.*shorten"):
        vocabulary(encoder, ["cat", LONG + "X", LONG + "Y"], "plain", ())
    with pytest.raises(ConfigError, match="cannot be told apart"):
        vocabulary(encoder, [LONG + "X"], "plain", (LONG + "Y",))
    same = vocabulary(encoder, [(LONG + "X", LONG + "Y")], "plain", ())
    assert torch.equal(same.texts[0], same.texts[1]), "names of one label may"


def test_a_name_of_few_letters_can_take_many_tokens(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    rows = tokenizer(["\u9f98" * 199 + last for last in "XY"])
    assert torch.equal(rows[0], rows[1]), "letters of CLIP's tokenizer are up to three tokens"
    with pytest.raises(ConfigError, match=r"cannot be told apart.* 77 tokens"):
        check_rows(tokenizer, ["\u9f98" * 199 + last for last in "XY"], [1, 2], ("{}",))
    with caplog.at_level(logging.WARNING):
        check_rows(tokenizer, ["a cat that sleeps on a red sofa in the sun"], [1], PROMPTS["tcl9"])
    assert caplog.messages == []
