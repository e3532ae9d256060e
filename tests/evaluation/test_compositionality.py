"""The suite: planted encoders, unreadable images, one encode, generated sets, and what it refuses."""

import json
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from patchclip import registry
from patchclip.data.sets import Benchmark, Choice, Retrieval, Selection
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.evaluation.result import Result
from patchclip.evaluation.suites.compositionality import CompositionalitySuite
from tests.evaluation._fakes import TableEncoder, picture


@dataclass
class Pictures:
    """Images known by their number; reading some of them fails."""

    count: int
    broken: tuple[int, ...] = ()
    fingerprint: str = "pictures"
    read: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Image.Image:
        self.read.append(index)
        if index in self.broken:
            raise DataError(f"picture {index} cannot be read")
        return picture(index)


def embedder(images: Tensor, texts: dict[str, Tensor]) -> Embedder:
    return Embedder(TableEncoder(images, texts), Encoding(batch_size=4, threads=1))


def pairs(count: int) -> tuple[Choice, ...]:
    return tuple(Choice((i,), (f"right {i}", f"wrong {i}")) for i in range(count))


def run(images: Tensor, texts: dict[str, Tensor], *sets: Benchmark) -> list[Result]:
    return list(CompositionalitySuite().results(embedder(images, texts), sets))


def texts_of(choices: tuple[Choice, ...], right: Tensor, wrong: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for choice, one, other in zip(choices, right, wrong, strict=True):
        found |= {choice.captions[0]: one, choice.captions[1]: other}
    return found


def test_a_perfect_model() -> None:
    choices, images = pairs(8), torch.eye(8)
    selection = Selection("made/swap_obj", Pictures(8), choices, "swap_obj")
    (result,) = run(images, texts_of(choices, images, images.roll(1, 0)), selection)
    assert result.metrics == {"text_acc": 1.0, "acc": 1.0}
    assert result.chance == {"text_acc": 0.5, "acc": 0.5}
    assert result.clip_benchmark == {"image_acc": 1.0}
    assert (result.dataset, result.task) == ("made/swap_obj", "image_caption_selection")
    assert (result.images, result.captions, result.details["questions"]) == (8, 16, 8)
    assert "image_acc is left out" in result.protocol
    assert result.details["failing"] == []
    assert len(result.details["right"]) == 2


def test_a_collapsed_model_gets_nothing_here_and_everything_there() -> None:
    choices, same = pairs(8), torch.ones(8, 4) / 2
    selection = Selection("made/swap_obj", Pictures(8), choices, "swap_obj")
    (result,) = run(same, texts_of(choices, same, same), selection)
    assert result.metrics == {"text_acc": 0.0, "acc": 0.0}
    assert result.clip_benchmark == {"image_acc": 1.0, "text_acc": 1.0, "acc": 1.0}
    assert len(result.details["failing"]) == 6
    assert result.details["tied"] == 8
    assert {each["chosen"][:5] for each in result.details["failing"]} == {"wrong"}
    assert {each["margin"] for each in result.details["failing"]} == {0.0}


def test_a_random_model_is_near_chance(seeded: torch.Generator) -> None:
    count = 250
    rows = [F.normalize(torch.randn(count, 16, generator=seeded), dim=1) for _ in range(3)]
    choices = pairs(count)
    (result,) = run(
        rows[0], texts_of(choices, rows[1], rows[2]), Selection("made/x", Pictures(count), choices, "x")
    )
    assert result.metrics["acc"] == pytest.approx(0.5, abs=5 * 0.5 / count**0.5)
    samples = result.samples["acc"]
    assert samples.values.mean().item() == pytest.approx(result.metrics["acc"])
    assert samples.group.tolist() == list(range(count))


def test_groups_have_a_macro_mean_beside_the_mean_over_questions() -> None:
    images = torch.eye(8)
    choices = tuple(Choice(c.images, c.captions, "on" if i < 6 else "wears") for i, c in enumerate(pairs(8)))
    answered = torch.arange(8) < 6
    right = torch.where(answered[:, None], images, images.roll(1, 0))
    wrong = torch.where(answered[:, None], images.roll(1, 0), images)
    (result,) = run(images, texts_of(choices, right, wrong), Selection("aro/x", Pictures(8), choices, "x"))
    assert result.metrics == {"text_acc": 0.75, "acc": 0.75, "macro_text_acc": 0.5}
    assert result.chance["macro_text_acc"] == 0.5
    assert set(result.samples) == {"text_acc", "acc"}, "it is no mean over questions"
    assert "macro_text_acc" not in result.clip_benchmark


def test_blind_of_three_captions_is_compared_with_a_third() -> None:
    """The longest caption is right in 45 of 100 questions of three: above a third, below 0.6."""
    rows = [("x y z", "u", "v") if i < 45 else ("u", "x y z", "v w") for i in range(100)]
    choices = tuple(Choice((i,), tuple(f"{text} {i}" for text in row)) for i, row in enumerate(rows))
    vectors = {text: torch.eye(3)[k] for each in choices for k, text in enumerate(each.captions)}
    (result,) = run(torch.eye(100, 3), vectors, Selection("made/x", Pictures(100), choices, "x"))
    assert result.details["blind"]["best"] < 0.6
    assert result.details["solved_blind"]


def winoground(images: Tensor, first: Tensor, second: Tensor) -> Result:
    choices = tuple(Choice((2 * i, 2 * i + 1), (f"one {i}", f"two {i}")) for i in range(len(images) // 2))
    selection = Selection("winoground", Pictures(len(images)), choices)
    (result,) = run(images, texts_of(choices, first, second), selection)
    return result


def test_winoground() -> None:
    images = torch.eye(8)
    perfect = winoground(images, images[::2], images[1::2])
    assert perfect.metrics == {"image_acc": 1.0, "text_acc": 1.0, "acc": 1.0}
    assert perfect.chance == {"image_acc": 0.25, "text_acc": 0.25, "acc": 1 / 6}
    assert perfect.clip_benchmark == {}
    assert perfect.details["blind"] == {}
    assert perfect.samples["acc"].group.tolist() == [0, 2, 4, 6]
    same = torch.ones(8, 4) / 2
    collapsed = winoground(same, same[::2], same[1::2])
    assert collapsed.metrics == {"image_acc": 0.0, "text_acc": 0.0, "acc": 0.0}
    assert collapsed.clip_benchmark == {}, "clip_benchmark gives 0.0 here, too"
    angles = torch.deg2rad(torch.tensor([[0.0, 20.0] * 4, [12.0, 15.0] * 4]))
    text_only, captions = torch.stack([angles.cos(), angles.sin()], dim=2)
    found = winoground(text_only, captions[::2], captions[1::2])
    assert found.metrics == {"image_acc": 0.0, "text_acc": 1.0, "acc": 0.0}


def test_questions_of_unreadable_images_are_left_out_and_told() -> None:
    choices, images = pairs(6), torch.eye(8)
    texts = texts_of(choices, images[:6], images[1:7])
    (result,) = run(images, texts, Selection("made/x", Pictures(8, broken=(2, 7)), choices, "x"))
    assert result.metrics["acc"] == 1.0
    assert (result.images, result.details["questions"], result.details["left_out"]) == (5, 5, 1)
    assert [each.key for each in result.bad] == ["made/2"], "image 7 is in no question of this kind"


def test_a_kind_without_a_readable_image_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    choices, images = pairs(3), torch.eye(4)
    pictures = Pictures(4, broken=(0,))
    lost = Selection("made/x", pictures, choices[:1], "x")
    kept = Selection("made/y", pictures, choices[1:], "y")
    found = run(images, texts_of(choices, images[:3], images[1:]), lost, kept)
    assert [each.dataset for each in found] == ["made/y"]
    assert "made/x" in caplog.text


def test_kinds_of_a_set_share_one_encode() -> None:
    choices, images = pairs(4), torch.eye(5)
    pictures = Pictures(4)
    sets = [Selection(f"made/{kind}", pictures, choices, kind) for kind in ("x", "y", "z")]
    assert len(run(images, texts_of(choices, images[:4], images[1:]), *sets)) == 3
    assert sorted(pictures.read) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "choices",
    [
        (Choice((0,), ("a", "b")), Choice((0,), ("a", "b", "c"))),
        (Choice((0,), ("a",)),),
        (Choice((5,), ("a", "b")),),
        (Choice((-1,), ("a", "b")),),
    ],
)
def test_damaged_questions_are_refused(choices: tuple[Choice, ...]) -> None:
    texts = {name: torch.eye(3)[i] for i, name in enumerate("abc")}
    with pytest.raises(DataError, match="made/x"):
        run(torch.eye(3), texts, Selection("made/x", Pictures(3), choices, "x"))


# Generated questions


CAPTIONS = [
    ("a small red cup on a table",),
    ("a large green box behind a lamp",),
    ("an old dog",),
    ("a kite",),
] * 6


class WordsEncoder(TableEncoder):
    """Texts are bags of hashed words, and so are the images of the captions above."""

    def __init__(self) -> None:
        super().__init__(torch.stack([self.bag(each[0]) for each in CAPTIONS]), {})
        self.seen: list[str] = []
        self.tokenizer = self.tokenize

    @staticmethod
    def bag(text: str) -> Tensor:
        found = torch.zeros(64)
        for word in text.split():
            found[sum(map(ord, word)) % 64] += 1.0
        return F.normalize(found, dim=0)

    def tokenize(self, texts: list[str]) -> Tensor:
        self.seen += texts
        return torch.tensor([[len(self.seen) - len(texts) + i] for i in range(len(texts))])

    def encode_text(self, tokens: Tensor) -> Tensor:
        return torch.stack([self.bag(self.seen[i]) for i in tokens[:, 0].tolist()])


def captioned(name: str = "mine", count: int = len(CAPTIONS)) -> Retrieval:
    return Retrieval(name, Pictures(count), CAPTIONS[:count])


def generated(*sets: Benchmark, suite: CompositionalitySuite | None = None) -> list[Result]:
    encoder = Embedder(WordsEncoder(), Encoding(batch_size=4, threads=1))
    return list((suite or CompositionalitySuite()).results(encoder, sets))


def test_captioned_sets_get_questions_by_rule() -> None:
    found = {result.dataset: result for result in generated(captioned())}
    assert {"mine/generated_replace_obj", "mine/generated_add_att", "mine/generated_swap_obj"} <= set(found)
    assert all("by rule" in result.protocol for result in found.values())
    assert found["mine/generated_add_att"].details["blind"]["best"] == 1.0
    assert found["mine/generated_replace_obj"].metrics["acc"] == 1.0, "a bag of words tells other words"
    assert found["mine/generated_swap_obj"].metrics["acc"] == 0.0, "and no other order"
    assert found["mine/generated_swap_obj"].clip_benchmark["acc"] == 1.0
    for result in found.values():
        json.dumps(result.to_json(), allow_nan=False)


def test_sets_with_questions_of_their_own_get_none() -> None:
    own = Selection("mine/swap_att", Pictures(4), (Choice((0,), ("a b", "b a")),), "swap_att")
    names = [result.dataset for result in generated(captioned(), own, captioned("other"))]
    assert names[0] == "mine/swap_att"
    assert {name.partition("/")[0] for name in names[1:]} == {"other"}


def test_too_few_questions_are_no_result() -> None:
    assert generated(captioned(count=9)) == []


def test_options() -> None:
    built = registry.build("suites", "compositionality", kinds=["add_att"], most=2)
    assert [each.dataset for each in generated(captioned(), suite=built)] == ["mine/generated_add_att"]
    assert generated(captioned(), suite=built)[0].details["questions"] == 2
    assert generated(captioned(), suite=CompositionalitySuite(generated=False)) == []
    with pytest.raises(ConfigError, match="add_att"):
        generated(captioned(), suite=CompositionalitySuite(kinds=("add_attr",)))
    with pytest.raises(ConfigError, match="most=0"):
        CompositionalitySuite(most=0)
