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
from tests.heads._naive import naive, own_text, pairs


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


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("block", [1, 60, 400, 1 << 24])
@pytest.mark.parametrize(
    "length, tau", [(20, 1.0), (20, 0.05), (70, 0.1)]
)  # fewer and more patches than numbers
def test_blocks_equal_the_definition(
    length: int, tau: float, block: int, dtype: torch.dtype, tolerance: float
) -> None:
    found, expected = [], []
    head = PACLHead(temperature=tau, block=block)
    for score, results in ((head.compatibility, found), (lambda v, t: naive(v, t, tau), expected)):
        patches, texts = pairs(6, length, 6, 48, dtype=dtype)
        scores = score(patches, texts)
        loss = PACLLoss()(scores, torch.tensor(20.0, dtype=dtype))["contrastive"]
        loss.backward()
        results.extend([scores.detach(), loss.detach(), patches.grad, texts.grad])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = pairs(2, 3, 3, 4, dtype=torch.float64)
    head = PACLHead(temperature=0.3, block=4)
    assert torch.autograd.gradcheck(head.compatibility, inputs)


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


@pytest.mark.parametrize("length", [6, 40])
def test_patches_and_texts_of_zeros(length: int) -> None:
    patches, texts = pairs(3, length, 4, 16)
    with torch.no_grad():
        patches[0] = 0  # an image of nothing
        patches[1, 2] = 0  # a patch of nothing
        patches[2, 1:] = -patches[2, :1] / (length - 1)  # patches that cancel under even weights
        texts[3] = 0
    for tau in (0.1, 1e9):
        scores = PACLHead(temperature=tau).compatibility(patches, texts)
        assert scores.isfinite().all()
        assert scores.abs().max() <= 1 + 1e-6
        assert torch.equal(scores[0], torch.zeros(4))
        assert torch.equal(scores[:, 3], torch.zeros(3))
        patches.grad = texts.grad = None
        scores.sum().backward()
        assert patches.grad is not None
        assert texts.grad is not None
        assert patches.grad.isfinite().all()
        assert texts.grad.isfinite().all()
        assert patches.grad[1].abs().max() > 0


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


class Held:
    """Bytes that autograd keeps between forward and backward, each tensor's memory once."""

    def __init__(self) -> None:
        self.found: dict[int, int] = {}

    def keep(self, value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        self.found[storage.data_ptr()] = storage.nbytes()
        return value

    @property
    def bytes(self) -> int:
        return sum(self.found.values())


def held(size: int, length: int = 64, block: int = 1024) -> tuple[int, int]:
    """Bytes held by our form and by the definition for `size` images and texts."""
    found = []
    for score in (PACLHead(block=block).compatibility, lambda v, t: naive(v, t, 0.1)):
        patches, texts = pairs(size, length, size, 8)
        count = Held()
        with torch.autograd.graph.saved_tensors_hooks(count.keep, lambda value: value):
            scores = score(patches, texts)
        found.append(count.bytes)
        scores.sum().backward()
        assert patches.grad is not None
    return found[0], found[1]


def test_what_is_held_grows_with_the_images_not_with_the_pairs() -> None:
    (ours_8, naive_8), (ours_64, naive_64) = held(8), held(64)
    inputs = 4 * (64 * 64 * 8 + 2 * 64 * 8)  # patches, texts and their directions
    assert ours_64 <= 2 * inputs + 4 * 64 * 64
    assert ours_64 < 10 * ours_8
    assert naive_64 > 50 * naive_8
    assert ours_64 < 4 * 64 * 64 * 64 < naive_64  # less than one number for each image, text and patch


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


def test_a_planted_word_is_learnt_and_found_in_its_patches() -> None:
    """The law of the paper: from pairs alone, the patches that show what a text says come to answer to it."""
    generator = torch.Generator().manual_seed(2)
    looks, words = torch.randn(12, 24, generator=generator), torch.randn(12, 16, generator=generator)
    head = built()
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)

    def scene() -> tuple[Tensor, Tensor, Tensor]:
        kind = torch.randperm(12, generator=generator)
        tokens = torch.randn(12, 16, 24, generator=generator)
        shown = torch.rand(12, 16, generator=generator).argsort(dim=1) < 4
        return tokens + 1.5 * shown.unsqueeze(-1) * looks[kind].unsqueeze(1), words[kind], shown

    def hits() -> float:
        tokens, texts, shown = scene()
        cosines = torch.einsum("ble,be->bl", F.normalize(head(tokens), dim=-1), F.normalize(texts, dim=-1))
        return shown.gather(1, cosines.argmax(dim=1, keepdim=True)).float().mean().item()

    before = sum(hits() for _ in range(10)) / 10  # chance is a quarter
    for _ in range(120):
        tokens, texts, _ = scene()
        PACLLoss()(head.compatibility(head(tokens), texts), torch.tensor(10.0))["contrastive"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert before < 0.4
    assert sum(hits() for _ in range(10)) / 10 > 0.7


@pytest.mark.parametrize(
    "options, message",
    [
        ({"hidden": 0}, "hidden=0 must be at least 1"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"temperature": -1.0}, "temperature=-1.0 must be above 0"),
        ({"temperature": math.nan}, "temperature=nan must be above 0"),
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
