"""Long captions through whole models: short ones stay as they were, late words are read."""

import copy
import itertools
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import patchclip
from patchclip import _cli_eval, cli, registry
from patchclip.contracts import LongContext
from patchclip.errors import ConfigError, TowerError
from patchclip.evaluation import _key
from patchclip.evaluation._reading import encode_texts
from patchclip.models.architectures import write_config
from patchclip.models.context.clipmd import ClipMD
from patchclip.models.context.long_clip import LongClip
from patchclip.models.long_context import LongEncoder, WindowTokenizer, stretched, with_context
from patchclip.models.towers import ClipEncoder
from tests.models._lively import lively

SHORT = ["", "a cat", "a dog and"]
"""Texts of 2 to 5 tokens; start and end token count."""
FITS = "a dog and a cat on a red chair in the old house"  # 14 of 14 tokens with a start and end token
LONG = "a dog and a cat on a red chair in the old house beside the lake under a tree with green leaves"
LATE = LONG.replace("green leaves", "yellow pears")
METHODS: dict[str, LongContext] = {"long_clip": LongClip(6, 3), "clipmd": ClipMD(10)}
TOWERS: dict[str, dict[str, Any]] = {
    "CLIP": {},
    "custom": {"custom": True},
    "end by id": {"custom": True, "pool_type": "eos", "eos_id": 49407},
}


def plain(**text: Any) -> ClipEncoder:
    return ClipEncoder(lively(**text))


def longer(name: str, **text: Any) -> ClipEncoder:
    return with_context(plain(**text), METHODS[name])


def read(encoder: ClipEncoder, *texts: str) -> Tensor:
    return encoder.encode_text(encoder.tokenizer(list(texts)))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("text", TOWERS.values(), ids=TOWERS)
def test_short_texts_embed_as_before_and_late_words_are_read(text: dict[str, Any], name: str) -> None:
    before, after = plain(**text), longer(name, **text)
    torch.testing.assert_close(read(after, *SHORT), read(before, *SHORT), rtol=0, atol=1e-6)
    assert torch.equal(*read(before, LONG, LATE))  # cut off
    same, other = read(after, LONG, LATE)
    assert (same - other).abs().max() > 0.01


@pytest.mark.parametrize(
    "text, same", [("a dog and", True), ("a dog and a cat", True), ("a b c d e f", False)]
)
def test_within_the_kept_positions_the_same_bits(text: str, same: bool) -> None:
    """Causal: the same rows of numbers go in, so the same come out.

    The first of the stretched rows is the old one behind the kept ones: kept + 1 = 7 tokens, not 8.
    """
    found, before = read(longer("long_clip"), text), read(plain(), text)
    assert torch.equal(found, before) == same
    assert same or (found - before).abs().max() > 0.01


def test_a_text_that_fits_is_one_window() -> None:
    encoder = longer("clipmd")
    assert encoder.tokenizer([FITS]).shape == (1, 17)
    torch.testing.assert_close(read(encoder, FITS), read(plain(), FITS), rtol=0, atol=1e-6)


def test_windows_are_pooled_before_they_are_normalised() -> None:
    encoder, model = longer("clipmd"), plain().model
    words = LONG.split()
    assert len(words) == 22
    windows = [" ".join(words[start : start + 14]) for start in (0, 10)]
    with torch.no_grad():
        each = model.encode_text(plain().tokenizer(windows))
    expected = torch.nn.functional.normalize(each.mean(dim=0), dim=0)
    torch.testing.assert_close(read(encoder, LONG)[0], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(read(encoder.raw(), LONG)[0], each.mean(dim=0), rtol=1e-5, atol=1e-5)
    assert (each.norm(dim=1)[0] / each.norm(dim=1)[1] - 1).abs() > 1e-3  # so the order matters


@pytest.mark.parametrize("pooling", ["mean", "max", "weighted"])
def test_windows_with_equal_content_give_that_window_s_embedding(pooling: str) -> None:
    encoder = with_context(plain(), ClipMD(14, pooling))
    once = "one two three four five six seven eight nine ten a b c d"
    torch.testing.assert_close(read(encoder, " ".join([once] * 3)), read(plain(), once), rtol=0, atol=1e-5)


def test_a_text_s_embedding_does_not_depend_on_the_others() -> None:
    encoder = longer("clipmd")
    texts = [LONG, "a cat", LATE * 3, "", LONG]
    alone = torch.cat([read(encoder, text) for text in texts])
    torch.testing.assert_close(read(encoder, *texts), alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(encode_texts(encoder, texts, 2), alone, rtol=0, atol=1e-5)


def test_parts_of_a_collection_may_have_other_numbers_of_windows() -> None:
    encoder = longer("clipmd")
    texts = ["a cat"] * 4096 + [LONG]
    found = encode_texts(encoder, texts, 4096)
    torch.testing.assert_close(found[-1:], read(encoder, LONG), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[0], found[4095])


def test_rows_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(ConfigError, match="rows of 16 tokens are not windows of 17"):
        longer("clipmd").encode_text(plain().tokenizer([LONG]))


@pytest.mark.parametrize("text", [{}, {"custom": True}], ids=["CLIP", "custom"])
def test_a_stretched_model_is_plain_open_clip_on_disk(text: dict[str, Any], tmp_path: Path) -> None:
    made = stretched(lively(**text), LongClip(6, 3))
    save_file(made.model.state_dict(), tmp_path / "open_clip_model.safetensors")
    write_config(tmp_path, made)
    model, *_ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    tokens = tokenizer([LONG, LATE])
    assert tokens.shape == (2, model.context_length) == (2, 3 * 16 - 2 * 6)
    with torch.no_grad():
        found = torch.nn.functional.normalize(model.eval().encode_text(tokens), dim=1)
    torch.testing.assert_close(found, read(ClipEncoder(made), LONG, LATE), rtol=0, atol=1e-6)
    torch.testing.assert_close(read(patchclip.load(tmp_path, device="cpu"), LONG)[0], found[0])


@pytest.mark.parametrize("name", METHODS)
def test_loaded_by_name(name: str, tmp_path: Path) -> None:
    made = lively()
    save_file(made.model.state_dict(), tmp_path / "open_clip_model.safetensors")
    write_config(tmp_path, made)
    option = {"long_clip": "long_clip:kept=6;factor=3", "clipmd": "clipmd:stride=10"}[name]
    found = patchclip.load(tmp_path, device="cpu", context=option)
    assert isinstance(found, LongEncoder) == (name == "clipmd")
    torch.testing.assert_close(read(found, LONG), read(longer(name), LONG))


def test_the_command_line_names_the_context(tmp_path: Path) -> None:
    made = lively()
    save_file(made.model.state_dict(), tmp_path / "open_clip_model.safetensors")
    write_config(tmp_path, made)
    words = ["eval", "--model", str(tmp_path), "--device", "cpu", "--context", "clipmd:stride=10"]
    (found,) = _cli_eval._encoders(cli.parse(words))
    assert isinstance(found, LongEncoder)
    assert found.context == ClipMD(10)
    assert found.name == f"{tmp_path} (clipmd:stride=10)"


def test_where_nothing_is_stretched_the_architecture_is_the_same() -> None:
    made = lively()
    assert stretched(made, ClipMD()) is made
    assert stretched(made, LongClip(3, 1)) is made
    table = made.model.positional_embedding
    assert stretched(made, LongClip(3, 2)).model.positional_embedding is not table


def test_a_frozen_table_stays_frozen() -> None:
    made = lively()
    made.model.positional_embedding.requires_grad_(False)
    assert not stretched(made, LongClip(6, 3)).model.positional_embedding.requires_grad


REFUSED: dict[str, dict[str, Any]] = {
    "not at the end token": {"custom": True, "pool_type": "last"},
    "attend to the padding": {"custom": True, "no_causal_mask": True},
    "behind the padding": {"custom": True, "embed_cls": True},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_towers_in_which_more_positions_mean_something_else_are_refused(reason: str) -> None:
    made = lively(**REFUSED[reason])
    before = copy.deepcopy(made.model.state_dict())
    with pytest.raises(TowerError, match=f"cannot be stretched.*{reason}.*clipmd"):
        stretched(made, LongClip(6, 3))
    assert all(torch.equal(value, before[name]) for name, value in made.model.state_dict().items())
    late = read(with_context(ClipEncoder(made), ClipMD(10)), LONG, LATE)  # windows are captions as any
    assert (late[0] - late[1]).abs().max() > 1e-3


def test_a_model_of_another_library_is_refused() -> None:
    encoder = plain()
    encoder.model = torch.nn.Linear(2, 2)
    with pytest.raises(TowerError, match=r"open_clip's CLIP and CustomTextCLIP, got Linear"):
        with_context(encoder, "clipmd")


def test_options_that_do_not_fit_the_tower_are_refused() -> None:
    with pytest.raises(ConfigError, match="kept=20 must be below the 16 positions"):
        with_context(plain(), "long_clip")
    with pytest.raises(ConfigError, match="stride=70 must be at most 14"):
        with_context(plain(), "clipmd:stride=70")
    with pytest.raises(ConfigError, match="ways to read long captions"):
        with_context(plain(), "clip_md2")


def test_kept_embeddings_are_those_of_the_same_reading() -> None:
    options = [None, "long_clip:kept=6", "long_clip:kept=7", "clipmd:stride=10", "clipmd:stride=9"]
    options += ["clipmd:stride=10;pooling=max", "clipmd:stride=10;pooling=weighted"]
    keys = [_key.model_key(plain() if o is None else with_context(plain(), o)) for o in options]
    for (one, key), (other, another) in itertools.combinations(zip(options, keys, strict=True), 2):
        assert key != another, f"{one} and {other}"
    assert keys[3] == _key.model_key(with_context(plain(), "clipmd:stride=10"))


def test_half_precision_is_near_full() -> None:
    architecture = lively()
    full, half = (with_context(ClipEncoder(architecture, kind), ClipMD(10)) for kind in ("fp32", "bf16"))
    torch.testing.assert_close(read(half, LONG), read(full, LONG), rtol=0, atol=0.03)


def test_a_tokenizer_that_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be asked for token ids"):
        WindowTokenizer(lambda texts: torch.zeros(len(texts), 16), ClipMD())


def test_every_method_works_on_a_model() -> None:
    for name in registry.names("context"):
        context = "long_clip:kept=6" if name == "long_clip" else name
        found = read(with_context(plain(), context), *SHORT)
        torch.testing.assert_close(found[:2], read(plain(), *SHORT)[:2], rtol=0, atol=1e-6)


def test_no_text_at_all() -> None:
    encoder = longer("clipmd")
    assert encoder.tokenizer([]).shape[0] == 0


def test_the_configuration_says_the_longer_context() -> None:
    found = longer("long_clip").architecture
    assert found.model_cfg["text_cfg"]["context_length"] == found.model.context_length == 36
    assert lively().model_cfg["text_cfg"]["context_length"] == 16
