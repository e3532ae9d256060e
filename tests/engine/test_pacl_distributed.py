"""PACL on two processes (gloo): the loss and gradients of one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from patchclip.losses.pacl import PACLLoss
from tests.engine._pacl_ranks import BATCH, CASES, batch, built, learnt_scale
from tests.engine.test_distributed import ROOT, free_port


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks left; see `_pacl_ranks.py`."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = []
    for rank in ("0", "1"):
        environment = {**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.engine._pacl_ranks", str(folder)]
        processes.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        )
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_have_the_loss_and_gradients_of_one_process(ranks: list[dict[str, Any]], case: str) -> None:
    head, scale = built(1 << 24), learnt_scale()
    tokens, texts, same = batch()
    scores = head.compatibility(head(tokens), texts)
    loss = PACLLoss()(scores, scale, same)["contrastive"]
    loss.backward()
    found = [rank[case] for rank in ranks]
    assert [each["rows"].shape for each in found] == [(BATCH // 2, BATCH)] * 2
    torch.testing.assert_close(torch.cat([each["rows"] for each in found]), scores.detach())
    for each in found:
        torch.testing.assert_close(each["loss"], loss.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(each["scale"], scale.grad, rtol=1e-10, atol=1e-12)
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0, name
            torch.testing.assert_close(
                each["gradients"][name], parameter.grad, rtol=1e-10, atol=1e-12, msg=name
            )
