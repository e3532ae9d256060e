"""The teacher: what it scores, how it follows, and that a run with one goes on after a stop."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from patchclip.engine.teacher import Teacher, build_teacher, crop
from patchclip.engine.train import train
from patchclip.masking.attentive import AttentiveMask
from patchclip.masking.random import RandomMask
from patchclip.masking.trim import TrimMask
from patchclip.models.guide import Guide
from patchclip.models.masked import attach
from tests.engine._tiny import architecture, tiny
from tests.engine._two_ranks import global_batch


def blob(row: int, column: int, side: int = 8) -> Tensor:
    """A score map with one hot patch."""
    board = torch.zeros(1, 1, side, side)
    board[0, 0, row, column] = 1.0
    return board


@pytest.mark.parametrize("row, column", [(2, 5), (4, 3), (5, 6), (3, 3)])
@pytest.mark.parametrize("top, left, share", [(0.25, 0.25, 0.75), (0.125, 0.25, 0.75), (0.0, 0.0, 1.0)])
def test_a_blob_lands_in_the_right_cell_of_a_shifted_crop(
    row: int, column: int, top: float, left: float, share: float
) -> None:
    seen = crop(blob(row, column), torch.tensor([[top, left, share, share]]), (8, 8))[0, 0]
    expected = (((row + 0.5) / 8 - top) / share * 8, ((column + 0.5) / 8 - left) / share * 8)
    found = divmod(int(seen.argmax()), 8)
    assert max(abs(f + 0.5 - e) for f, e in zip(found, expected, strict=True)) <= 0.67


def test_a_crop_of_whole_patches_is_a_slice() -> None:
    board = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = crop(board, torch.tensor([[0.25, 0.5, 0.5, 0.5]] * 2), (4, 4))
    torch.testing.assert_close(found, board[:, :, 2:6, 4:8])


def test_only_guided_maskers_have_a_teacher() -> None:
    model = architecture().model
    assert build_teacher(None, model) is None
    assert build_teacher(attach(model, RandomMask()), model) is None
    attentive, trim = AttentiveMask(resolution=0.25, layers=1, momentum=0.5), TrimMask()
    teacher = build_teacher(attach(model, attentive), model)
    assert isinstance(teacher, Teacher)
    assert attentive.scorer is teacher
    assert (teacher.guide.resolution, teacher.guide.layers, teacher.momentum) == (0.25, 1, 0.5)
    other = build_teacher(attach(model, trim), model)
    assert other is not None
    assert (other.guide.score, other.guide.resolution, other.momentum) == ("text", 1.0, 0.996)


def test_the_momentum_rises_to_one() -> None:
    model, new = architecture().model, architecture().model
    with torch.no_grad():
        [p.fill_(1.0) for p in model.parameters()]
        [p.fill_(0.0) for p in new.parameters()]
    teacher = Teacher(Guide.teacher(model), 0.9)
    expected = 1.0
    for progress, momentum in ((0.0, 0.9), (0.5, 0.95), (1.0, 1.0)):
        teacher.follow(new, progress)
        expected *= momentum
        for parameter in teacher.guide.model.parameters():
            torch.testing.assert_close(parameter, torch.full_like(parameter, expected))


def test_views_share_one_look_at_the_image() -> None:
    model = architecture().model
    pixels, tokens = global_batch()
    guide = Guide.teacher(model)
    looks: list[int] = []
    guide.model.visual.register_forward_pre_hook(lambda module, args: looks.append(len(args[0])))
    teacher = Teacher(guide)
    teacher.see(pixels, tokens)
    for top in (0.0, 0.2):
        teacher.box = torch.tensor([[top, 0.0, 0.8, 0.8]]).expand(8, -1)
        assert teacher(pixels, 16).shape == (8, 16)
    assert looks == [8]
    teacher.see(pixels[:3], tokens[:3])
    assert torch.equal(teacher.look()[0].flatten(1), guide(pixels[:3], 16))
    assert looks == [8, 3, 3]


SECTIONS = {
    "text, in micro-batches": ({"name": "attentive", "score": "text"}, {"name": "clip"}, {"micro_batch": 4}),
    "views": ({"name": "attentive"}, {"name": "attentive", "hidden": 16}, {"views": 2, "ema": 0.9}),
}


@pytest.mark.parametrize("case", SECTIONS)
def test_a_resumed_run_has_the_losses_of_an_unbroken_one(
    pairs: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    masking, loss, loop = SECTIONS[case]
    losses: list[float] = []
    stop_at: int | None = None

    def config(name: str):  # type: ignore[no-untyped-def]
        return tiny(pairs, tmp_path / name, masking=masking, loss=loss, train={**loop, "max_steps": 6})

    train(config("whole"), on_step=lambda info: losses.append(info.loss))
    again: list[float] = []

    class Cut(Exception):
        pass

    def cut(info) -> None:  # type: ignore[no-untyped-def]
        again.append(info.loss)
        if len(again) == stop_at:
            raise Cut

    stop_at = 4  # after the checkpoint of step 3
    with pytest.raises(Cut):
        train(config("cut"), on_step=cut)
    stop_at = None
    del again[3:]
    train(config("cut"), resume=True, on_step=cut)
    assert again == losses
