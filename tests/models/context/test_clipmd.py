"""Windows by hand, three ways to pool, and what the released code reads instead."""

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.models.architectures import Architecture
from patchclip.models.context.clipmd import ClipMD
from patchclip.models.long_context import with_context
from patchclip.models.towers import ClipEncoder
from tests.models._lively import lively

START, END = 49406, 49407


def test_windows_by_hand() -> None:
    assert ClipMD(stride=10).cut(35, 14) == [(0, 14), (10, 24), (20, 34), (30, 35)]
    assert ClipMD(stride=10).cut(24, 14) == [(0, 14), (10, 24)]
    assert ClipMD(stride=14).cut(28, 14) == [(0, 14), (14, 28)]
    assert ClipMD().cut(76, 75) == [(0, 75), (68, 76)]
    assert ClipMD().cut(8, 5) == [(0, 5), (1, 6), (2, 7), (3, 8)]  # a room below the overlap


def test_the_released_overlap_is_the_default() -> None:
    (_, end), (start, _) = ClipMD().cut(100, 75)
    assert end - start == 77 - 70


def test_three_ways_to_pool() -> None:
    rows = torch.tensor([[1.0, 4.0], [3.0, 0.0], [2.0, -1.0]])
    lengths = torch.tensor([14, 14, 4])
    assert ClipMD().pool(rows, lengths).tolist() == [2, 1]
    assert ClipMD(pooling="max").pool(rows, lengths).tolist() == [3, 4]
    weighted = ClipMD(pooling="weighted").pool(rows, lengths).tolist()
    assert weighted == pytest.approx([(14 + 42 + 8) / 32, (56 - 4) / 32])


@pytest.mark.parametrize("pooling", ["mean", "max", "weighted"])
def test_half_precision_is_near_full(pooling: str) -> None:
    rows = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([75] * 5 + [3])
    found = ClipMD(pooling=pooling).pool(rows.half(), lengths)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), ClipMD(pooling=pooling).pool(rows, lengths), rtol=0, atol=4e-3)


@pytest.mark.parametrize("options", [{"stride": 0}, {"stride": -3}, {"pooling": "sum"}])
def test_options_outside_their_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"stride=|pooling="):
        ClipMD(**options)  # type: ignore[arg-type]


def test_windows_that_leave_tokens_out_are_refused() -> None:
    with pytest.raises(ConfigError, match="stride=70 must be at most 14"):
        ClipMD(stride=70).cut(100, 14)


def released(architecture: Architecture, ids: list[int], overlap: int = 3) -> Tensor:
    """Embeddings of the windows as the released code cuts them: the row of special tokens and words at once.

    A row longer than the context is cut into full windows; what follows the last one's stride is a window
    more, filled up with end tokens.
    """
    s, row = 16, torch.tensor([START, *ids, END])
    stride = s - overlap
    windows = list(row.unfold(0, s, stride)) if len(row) > s else []
    rest = row[len(windows) * stride :]
    windows.append(torch.cat([rest, torch.full((s - len(rest),), END)]))
    with torch.no_grad():
        found: Tensor = architecture.model.encode_text(torch.stack(windows))
    return found


def caption(first: int, count: int = 30) -> list[int]:
    """Ids of words: of the first window those from `first` on, then the same in every caption."""
    return [*range(first, first + 10), *range(1000, 1000 + count - 10)]


def test_the_released_code_does_not_read_the_words_of_its_first_window() -> None:
    """No end token there: CLIP reads out the highest id, the start token's, which sees no word."""
    architecture = lively()
    one, other = (released(architecture, caption(first)) for first in (500, 700))
    assert len(one) == 3
    torch.testing.assert_close(one, other)  # other words at the beginning change no window at all

    encoder = with_context(ClipEncoder(architecture), ClipMD(stride=10))
    text = "a cat and a dog sit on the old red chair " * 3
    embedded = encoder.encode_text(encoder.tokenizer([text, f"blue {text[2:]}"]))
    assert (embedded[0] - embedded[1]).abs().max() > 0.01


def test_the_released_code_reads_its_last_tokens_twice() -> None:
    row = torch.arange(16 + 13)  # the context, and one stride more
    windows = row.unfold(0, 16, 13)
    rest = row[len(windows) * 13 :]
    assert windows[-1, -1] == row[-1]  # all is read
    assert rest.tolist() == row[-3:].tolist()  # and yet there is a window more
    assert ClipMD(stride=11).cut(14 + 11, 14) == [(0, 14), (11, 25)]
