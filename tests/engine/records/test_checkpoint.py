"""A checkpoint is whole or absent, whatever fails while it is written."""

import errno
import os
import pickle
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from patchclip.engine.records import checkpoint
from patchclip.engine.records.checkpoint import (
    EMA,
    LATEST,
    STATE,
    Weights,
    latest,
    load,
    prune,
    save,
    save_final,
    write_weights,
)
from patchclip.errors import CheckpointError
from patchclip.models.architectures import CONFIG, WEIGHTS, Architecture
from tests.engine._tiny import architecture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made() -> Architecture:
    torch.manual_seed(1)
    return architecture()


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def full_disk(*args: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[], None]]:
    """Makes every file end at 100 kB, as a full disk would: the real writers fail, none is replaced."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_checkpoint_comes_back(tmp_path: Path, made: Architecture) -> None:
    weights = made.model.state_dict()
    averaged = {
        name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in weights.items()
    }
    folder = save(
        tmp_path, made, {"step": 7, "x": torch.arange(3), "n": {"a": [1.5]}}, Weights(averaged=averaged)
    )
    assert folder.name == "step-00000007"
    assert names(tmp_path) == [LATEST, "step-00000007"]
    assert latest(tmp_path) == folder
    state, found, ema = load(folder, CPU)
    assert (state["step"], state["x"].tolist(), state["n"]) == (7, [0, 1, 2], {"a": [1.5]})
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert ema is not None
    assert all(torch.equal(ema[name], averaged[name]) for name in weights)


def test_plain_open_clip_reads_the_folder(tmp_path: Path, made: Architecture) -> None:
    save(tmp_path, made, {"step": 1})
    final = save_final(tmp_path, made, made.model.state_dict())
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for folder in (tmp_path / "checkpoints" / "step-00000001", final):
        model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        for name, tensor in made.model.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor), name
        with torch.no_grad():
            torch.testing.assert_close(model.encode_image(pixels), made.model.eval().encode_image(pixels))
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a red circle"])
        assert tokens.shape == (1, 16)
    assert load(tmp_path / "checkpoints" / "step-00000001", CPU)[2] is None


@pytest.mark.parametrize(
    "target",
    [
        "torch.save",
        "patchclip._tensors.save_file",
        "os.rename",
        "patchclip.engine.records.checkpoint.flush",
    ],
)
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, made: Architecture, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(tmp_path, made, {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(target, full_disk)
        with pytest.raises(
            CheckpointError, match=r"step-00000002 could not be written .*No space left.*untouched"
        ):
            save(tmp_path, made, {"step": 2})
    assert names(tmp_path) == [LATEST, "step-00000001"]
    assert latest(tmp_path) == first
    assert load(first, CPU)[0] == {"step": 1}
    save(tmp_path, made, {"step": 2})
    assert latest(tmp_path) == tmp_path / "checkpoints" / "step-00000002"


def test_a_disk_that_is_really_full(
    tmp_path: Path, made: Architecture, file_size_limit: Callable[[], None]
) -> None:
    first = save(tmp_path, made, {"step": 1})
    file_size_limit()
    with pytest.raises(CheckpointError, match="could not be written"):
        save(tmp_path, made, {"step": 2})
    assert names(tmp_path) == [LATEST, "step-00000001"]
    assert latest(tmp_path) == first


def test_training_state_that_does_not_fit(
    tmp_path: Path, file_size_limit: Callable[[], None], monkeypatch: pytest.MonkeyPatch, made: Architecture
) -> None:
    monkeypatch.setattr(checkpoint, "write_weights", lambda path, weights: None)
    file_size_limit()
    with pytest.raises(CheckpointError, match="could not be written"):
        save(tmp_path, made, {"step": 2, "moments": torch.zeros(100_000)})
    assert names(tmp_path) == []


def test_a_pointer_that_cannot_be_written(
    tmp_path: Path, made: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, made, {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_disk)
        with pytest.raises(CheckpointError, match="No space left"):
            save(tmp_path, made, {"step": 2})
    assert latest(tmp_path) == tmp_path / "checkpoints" / "step-00000001"


def test_an_interrupt_passes_through(
    tmp_path: Path, made: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(tmp_path, made, {"step": 1})

    def interrupt(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, made, {"step": 2})
    assert latest(tmp_path) == first
    save(tmp_path, made, {"step": 3})
    assert names(tmp_path) == [LATEST, "step-00000001", "step-00000003"]


def test_saving_a_step_again_replaces_it(tmp_path: Path, made: Architecture) -> None:
    for note in ("old", "new"):
        folder = save(tmp_path, made, {"step": 4, "note": note})
    assert load(folder, CPU)[0]["note"] == "new"
    assert names(tmp_path) == [LATEST, "step-00000004"]


def test_a_checkpoint_that_cannot_be_replaced_stays(
    tmp_path: Path, made: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path, made, {"step": 4, "note": "old"})
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).suffix == ".tmp":
            full_disk()
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(CheckpointError, match="No space left"):
        save(tmp_path, made, {"step": 4, "note": "new"})
    assert load(folder, CPU)[0]["note"] == "old"
    assert names(tmp_path) == [LATEST, "step-00000004"]


def empty(run: Path, *steps: str) -> Path:
    for step in steps:
        (run / "checkpoints" / step).mkdir(parents=True)
    return run


def test_a_write_that_was_cut_off_is_never_the_latest(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    empty(tmp_path, "step-00000009.tmp", "step-00000008.old")
    assert latest(tmp_path) is None
    empty(tmp_path, "step-00000003", "step-00000004")
    assert latest(tmp_path) == tmp_path / "checkpoints" / "step-00000004"


@pytest.mark.parametrize("content", ["step-00000077\n", "", "nonsense", "../..", "step-00000004.tmp"])
def test_a_pointer_to_nowhere_falls_back_to_the_newest(tmp_path: Path, content: str) -> None:
    empty(tmp_path, "step-00000003", "step-00000004", "step-00000004.tmp")
    (tmp_path / "checkpoints" / LATEST).write_text(content)
    assert latest(tmp_path) == tmp_path / "checkpoints" / "step-00000004"


def test_the_pointer_decides(tmp_path: Path) -> None:
    empty(tmp_path, "step-00000003", "step-00000004")
    (tmp_path / "checkpoints" / LATEST).write_text("step-00000003\n")
    assert latest(tmp_path) == tmp_path / "checkpoints" / "step-00000003"


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_prune_keeps_the_newest_and_sweeps_leftovers(tmp_path: Path, keep: int) -> None:
    steps = [f"step-{step:08d}" for step in (2, 10, 100)]
    folder = empty(tmp_path, *steps, "step-00000050.tmp", "step-00000060.old") / "checkpoints"
    prune(folder, keep)
    assert names(tmp_path) == steps[-keep:]


def test_a_run_keeps_as_many_as_asked(tmp_path: Path, made: Architecture) -> None:
    for step in (1, 2, 3):
        save(tmp_path, made, {"step": step}, keep=2)
    assert names(tmp_path) == [LATEST, "step-00000002", "step-00000003"]


@pytest.mark.parametrize("file", [STATE, WEIGHTS, EMA])
def test_a_cut_file_is_an_error_that_names_the_folder(tmp_path: Path, made: Architecture, file: str) -> None:
    folder = save(
        tmp_path, made, {"step": 1, "x": torch.zeros(1000)}, Weights(averaged=made.model.state_dict())
    )
    body = (folder / file).read_bytes()
    (folder / file).write_bytes(body[: len(body) // 2])
    with pytest.raises(CheckpointError, match=r"step-00000001 cannot be read .*remove this folder"):
        load(folder, CPU)


def test_a_missing_file_is_an_error(tmp_path: Path, made: Architecture) -> None:
    folder = save(tmp_path, made, {"step": 1})
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(folder, CPU)


class Malicious:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["PATCHCLIP_TEST_TARGET"],)


@pytest.mark.parametrize("write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_code_in_a_training_state_is_refused(
    tmp_path: Path, made: Architecture, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "broken-into"
    monkeypatch.setenv("PATCHCLIP_TEST_TARGET", str(target))
    folder = save(tmp_path, made, {"step": 1})
    write({"step": 1, "x": Malicious()}, folder / STATE)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(folder, CPU)
    assert not target.exists()


def test_tensors_that_share_memory_are_written_one_by_one(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    write_weights(
        tmp_path / "w", {"a": base, "b": base, "part": base[0], "turned": base.T, "empty": base[:0]}
    )
    found = load_file(tmp_path / "w")
    assert torch.equal(found["a"], base)
    assert torch.equal(found["b"], base)
    assert torch.equal(found["part"], base[0])
    assert torch.equal(found["turned"], base.T)
    assert found["empty"].shape == (0, 3)


def test_the_configuration_is_open_clips(tmp_path: Path, made: Architecture) -> None:
    folder = save_final(tmp_path, made, made.model.state_dict())
    assert sorted(path.name for path in folder.iterdir()) == sorted([WEIGHTS, CONFIG])
