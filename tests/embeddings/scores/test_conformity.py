"""Conformity is the mean of all cosines, to the last digit."""

import pytest
import torch
import torch.nn.functional as F

from patchclip.embeddings.scores import conformity
from patchclip.embeddings.scores.conformity import Conformity
from patchclip.errors import ConfigError
from tests.embeddings._rows import rows

IMAGE, TEXT = rows(60), rows(50, seed=1)


def test_it_is_the_mean_of_all_cosines() -> None:
    x = rows(9, seed=2)
    expected = (F.normalize(x, dim=-1) @ F.normalize(IMAGE, dim=-1).T).mean(1)
    torch.testing.assert_close(Conformity("image").fit(IMAGE, TEXT)(x, x), expected, rtol=0, atol=1e-14)


def test_both_is_the_sum_and_rare_the_negative() -> None:
    x, y = rows(9, seed=2), rows(9, seed=3)
    parts = [Conformity(side).fit(IMAGE, TEXT)(x, y) for side in ("image", "text")]
    torch.testing.assert_close(Conformity().fit(IMAGE, TEXT)(x, y), parts[0] + parts[1])
    torch.testing.assert_close(Conformity(rare=True).fit(IMAGE, TEXT)(x, y), -parts[0] - parts[1])


def test_what_is_common_scores_high() -> None:
    crowd = torch.tensor([[1.0, 0.0]]).repeat(9, 1)
    alone = torch.tensor([[0.0, 1.0]])
    rows_ = torch.cat([crowd, alone])
    found = Conformity("image").fit(rows_, rows_)(rows_, rows_)
    torch.testing.assert_close(found, torch.tensor([0.9] * 9 + [0.1]))


def test_many_rows_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Conformity().fit(IMAGE, TEXT)(IMAGE[:50], TEXT)
    monkeypatch.setattr(conformity, "CHUNK", 7)
    torch.testing.assert_close(Conformity().fit(IMAGE, TEXT)(IMAGE[:50], TEXT), expected)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="of='caption' must be one of image, text, both"):
        Conformity("caption")
