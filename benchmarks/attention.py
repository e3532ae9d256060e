"""Attention forward and backward on a CPU: torch's fused kernel against plain matrix products.

    python benchmarks/attention.py            writes benchmarks/results/attention.json
    python benchmarks/attention.py --quick    fewer rounds; writes nothing

Why `engine/assemble.py` takes plain products for bf16 on CPUs. Sequence lengths are those of a masked and a
dense ViT at 112 px (25, 50) and 224 px (99, 197), one thread, interleaved, medians of processor time. The
last line is one JSON object: plain over fused, by precision and length.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

RESULT = Path(__file__).parent / "results" / "attention.json"
KERNELS = {"fused": SDPBackend.FLASH_ATTENTION, "plain": SDPBackend.MATH}


def seconds(kernel: SDPBackend, length: int, kind: torch.dtype) -> float:
    """Processor seconds of one forward and backward of 64 images, 3 heads of 64."""
    qkv = [torch.randn(64, 3, length, 64, dtype=kind, requires_grad=True) for _ in range(3)]
    with sdpa_kernel(kernel):
        started = time.process_time()
        F.scaled_dot_product_attention(*qkv).sum().backward()
        return time.process_time() - started


def main() -> None:
    """Measures every length in both precisions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ratios = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for length in (25, 50, 99, 197):
            rounds = [
                {kernel: seconds(backend, length, kind) for kernel, backend in KERNELS.items()}
                for _ in range(5 if options.quick else 25)
            ][1:]
            ratios[f"{name} {length}"] = round(statistics.median(r["plain"] / r["fused"] for r in rounds), 3)
    if not options.quick:
        content = {"what": "plain over fused, one thread", "torch": torch.__version__, "ratios": ratios}
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
