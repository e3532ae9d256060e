"""What each rank does: `python -m tests.embeddings._stats_ranks OUT`, run by test_feature_stats.py."""

import os
import sys
from pathlib import Path

import torch.distributed as dist
from safetensors.torch import save_file

from patchclip.embeddings.feature_stats import FeatureStats
from tests.embeddings._rows import rows

SHARES = ((0, 0), (0, 13), (13, 40))
"""Rows that each rank has seen, from and to; the first has seen none."""


def main(out: Path) -> None:
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    start, stop = SHARES[rank]
    own = FeatureStats(6).update(rows(40)[start:stop])
    whole = own.merged_over_processes()
    assert own.count == stop - start
    nothing = FeatureStats(6).merged_over_processes()
    assert nothing.count == 0
    save_file(whole.state_dict(), out / f"rank-{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
