"""PACL's head: closed forms, the naive definition, and no leak of the answer into the question."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchclip import registry
from patchclip.contracts import PatchHead
from patchclip.errors import ConfigError
from patchclip.heads._pairwise import weights
from patchclip.heads.pacl import PACLHead
from patchclip.losses.pacl import PACLLoss
from tests.heads._naive import own_text, pairs
from tests.heads._planted import Scenes, accuracy


def built(width: int = 24, embedding: int = 16, **options: float | None) -> PACLHead:
    head = PACLHead(**options)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        head.build(width, embedding)
    return head


def correct(scores: Tensor) -> float:
    """Share of images that rank their own text first."""
    return (scores.argmax(dim=1) == torch.arange(len(scores))).float().mean().item()


def test_it_is_a_head_of_the_registry() -> None:
    head = registry.build("heads", "pacl", temperature=0.07, hidden=8)
    assert isinstance(head, PatchHead)
    assert (head.temperature, head.hidden) == (0.07, 8)


@pytest.mark.parametrize(
    "width, embedding, hidden, expected",
    [
        (768, 512, None, 1_050_112),
        (1024, 768, None, 2_164_992),
        (192, 64, 32, 192 * 32 + 32 + 32 * 64 + 64 + 192 * 64 + 64),
    ],
)
def test_parameters(width: int, embedding: int, hidden: int | None, expected: int) -> None:
    assert (
        sum(parameter.numel() for parameter in built(width, embedding, hidden=hidden).parameters())
        == expected
    )


def test_the_embedder_is_a_residual_block() -> None:
    head = built()
    tokens = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
    state = {name: value.detach() for name, value in head.state_dict().items()}
    hidden = (tokens @ state["inner.weight"].T + state["inner.bias"]).clamp(min=0)
    main = hidden @ state["outer.weight"].T + state["outer.bias"]
    expected = main + tokens @ state["skip.weight"].T + state["skip.bias"]
    torch.testing.assert_close(head(tokens), expected)


@pytest.mark.parametrize("tau", [1.0, 0.1])
@pytest.mark.parametrize("patches", [2, 7, 16])
def test_orthogonal_patches_and_a_text_equal_to_one(patches: int, tau: float) -> None:
    vectors = torch.eye(16, dtype=torch.float64)[:patches]
    own = math.exp(1 / tau) / (math.exp(1 / tau) + patches - 1)
    other = (1 - own) / (patches - 1)
    _, shares = weights(vectors[None], vectors[:1], tau)
    torch.testing.assert_close(shares[0, 0], torch.tensor([own] + [other] * (patches - 1)).double())
    pooled = shares[0] @ vectors
    torch.testing.assert_close(pooled[0, :patches], shares[0, 0])
    found = PACLHead(temperature=tau).compatibility(vectors[None], vectors[:1])
    assert found.item() == pytest.approx(own / math.sqrt(own**2 + (patches - 1) * other**2), abs=1e-12)


@pytest.mark.parametrize("tau", [1.0, 0.1, 0.01])
def test_patches_that_are_all_alike_score_as_clip_does(tau: float) -> None:
    image, texts = pairs(5, 1, 6, 32)
    expected = F.normalize(image[:, 0], dim=-1) @ F.normalize(texts, dim=-1).T
    head = PACLHead(temperature=tau)
    torch.testing.assert_close(head.compatibility(image, texts), expected)  # one patch
    torch.testing.assert_close(head.compatibility(image.expand(-1, 49, -1), texts), expected)


def test_low_temperature_takes_the_best_patch_and_high_the_mean() -> None:
    patches, texts = pairs(4, 9, 5, 16)
    cosines = F.cosine_similarity(patches[:, None], texts[None, :, None], dim=-1)
    best = PACLHead(temperature=1e-4).compatibility(patches, texts)
    torch.testing.assert_close(best, cosines.amax(dim=-1))
    mean = F.normalize(patches.mean(dim=1), dim=-1) @ F.normalize(texts, dim=-1).T
    torch.testing.assert_close(PACLHead(temperature=1e6).compatibility(patches, texts), mean)


def test_neither_order_nor_number_of_copies_of_the_patches_counts() -> None:
    patches, texts = pairs(4, 9, 5, 16)
    head = PACLHead()
    expected = head.compatibility(patches, texts)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(head.compatibility(patches[:, order], texts), expected)
    torch.testing.assert_close(head.compatibility(patches.repeat(1, 3, 1), texts), expected)
    torch.testing.assert_close(head.compatibility(7 * patches, 0.01 * texts), expected)


def test_unnormalised_pooling_lets_long_patches_count_more() -> None:
    patches = torch.eye(2)[None]
    text = torch.tensor([[1.0, 0.0]])
    head = PACLHead(temperature=1.0)
    assert head.compatibility(patches * torch.tensor([[[5.0], [1.0]]]), text) > head.compatibility(
        patches, text
    )


def test_a_checkpoint_around_it_changes_nothing() -> None:
    results = []
    for wrap in (False, True):
        head, (tokens, texts) = built(), pairs(4, 9, 4, 24)
        texts = texts[:, :16]

        def scores(part: Tensor, others: Tensor, head: PACLHead = head) -> Tensor:
            return head.compatibility(head(part), others)

        run = torch.utils.checkpoint.checkpoint if wrap else (lambda call, *args, use_reentrant: call(*args))
        run(scores, tokens, texts, use_reentrant=False).diagonal().sum().backward()
        results.append([tokens.grad, *(parameter.grad for parameter in head.parameters())])
    for without, with_one in zip(*results, strict=True):
        torch.testing.assert_close(with_one, without)


def test_only_what_asks_for_a_gradient_gets_one() -> None:
    head, (tokens, texts) = built(), pairs(4, 9, 4, 24)
    scores = head.compatibility(head(tokens.detach()), texts.detach()[:, :16])
    scores.diagonal().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().max() > 0, name
    with torch.no_grad():
        assert not head.compatibility(head(tokens), texts[:, :16]).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_scores_stay_float32(dtype: torch.dtype) -> None:
    head, (tokens, texts) = built(), pairs(4, 9, 4, 24)
    texts = texts[:, :16]
    expected = head.compatibility(head(tokens), texts)
    with torch.autocast("cpu", dtype=dtype):
        embedded = head(tokens)
        found = head.compatibility(embedded, texts)
    assert (embedded.dtype, found.dtype) == (dtype, torch.float32)
    assert torch.equal(found, head.compatibility(embedded.float(), texts))
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0.03)
    found.diagonal().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in head.parameters())


def test_tokens_kept_in_half_precision_are_read_in_full() -> None:
    head, (tokens, _) = built(), pairs(2, 5, 2, 24)
    assert torch.equal(head(tokens.half()), head(tokens.half().float()))
    assert head.half()(tokens).dtype == torch.float16


@pytest.mark.parametrize("size", [16, 64])
def test_random_features_find_their_text_by_chance_only(size: int) -> None:
    """What public re-implementations miss: they pool an image with its own text before comparing."""
    ours, leaking = [], []
    for seed in range(8):
        patches, texts = pairs(size, 49, size, 64, seed)
        for tau in (1.0, 0.1):
            ours.append(correct(PACLHead(temperature=tau).compatibility(patches, texts)))
        leaking.append(correct(own_text(patches, texts, 0.1)))
    deviation = math.sqrt((1 - 1 / size) / size / (8 * size))  # of 8 batches; the two temperatures agree
    assert abs(sum(ours) / len(ours) - 1 / size) < 4 * deviation
    assert min(leaking) > 0.9


def trained_on_noise(score: str, size: int = 32, steps: int = 150) -> float:
    """Accuracy on fresh random pairs of a head that learnt on random pairs, new in each step."""
    head = built(16, 16, temperature=0.1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    found = []
    for step in range(steps + 10):
        tokens = torch.randn(size, 16, 16, generator=generator)
        texts = torch.randn(size, 16, generator=generator)
        patches = head(tokens)
        scores = head.compatibility(patches, texts) if score == "pairwise" else own_text(patches, texts, 0.1)
        if step >= steps:
            found.append(correct(scores))
            continue
        PACLLoss()(scores, torch.tensor(10.0))["contrastive"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return sum(found) / len(found)


def test_training_on_pairs_that_share_nothing_teaches_nothing() -> None:
    assert trained_on_noise("pairwise") < 3 / 32
    assert trained_on_noise("own text") > 10 / 32


def test_patches_learn_their_words_from_pairs_alone_and_need_a_low_temperature() -> None:
    """The law of the paper; with tau = 1 a small thing is lost among 64 patches."""
    scenes = Scenes(words=12, patches=64, covered=3, seed=0)
    default = accuracy(scenes, PACLHead().temperature, steps=100, batch=16)
    assert default > 0.4  # chance is 1 / 12
    assert default > accuracy(scenes, 1.0, steps=100, batch=16) + 0.15


@pytest.mark.parametrize(
    "options, message",
    [
        ({"hidden": 0}, "hidden=0 must be at least 1"),
        ({"temperature": 0.0}, "temperature=0.0 must be at least 0.0001"),
        ({"temperature": -1.0}, "temperature=-1.0 must be at least 0.0001"),
        ({"temperature": math.nan}, "temperature=nan must be at least 0.0001"),
        ({"block": 0}, "block=0 must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PACLHead(**options)  # type: ignore[arg-type]


def test_without_weights_it_says_so() -> None:
    with pytest.raises(ConfigError, match=r"call build\(width, embedding\)"):
        PACLHead()(torch.zeros(1, 4, 8))
    assert not list(PACLHead().parameters())
    assert isinstance(PACLHead(), nn.Module)
