"""Zero-shot evaluation of the weights that a run would end with."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from patchclip.config import TrainConfig
from patchclip.engine.parts import Parts
from patchclip.engine.scoring import scored
from patchclip.evaluation._runner import evaluate
from patchclip.evaluation.embedder import Encoding
from patchclip.evaluation.result import Result
from patchclip.models.towers import ClipEncoder

log = logging.getLogger(__name__)


def evaluate_parts(config: TrainConfig, parts: Parts, final: Any) -> dict[str, Any]:
    """Zero-shot figures of the weights a run would end with (`Parts.final_module`), as "<set>/<metric>"."""
    log.info("evaluating on %s", config.eval.root)
    final.eval()
    model, head = (final, None) if parts.head is None else (parts.model, final)
    encoder = ClipEncoder(replace(scored(parts), name=config.output, model=model), head=head)
    output = Path(config.output) / "eval"
    with torch.compiler.set_stance("force_eager"):  # each batch of another size would be a graph of its own
        results = evaluate(
            *(encoder, config.eval.suites, config.eval.root, config.eval.datasets),
            output=output,
            encoding=Encoding(batch_size=config.eval.batch_size),
        )
    final.train()
    for result in results:
        log.info("%s: %s", result.dataset, ", ".join(f"{k} {v:.3f}" for k, v in result.metrics.items()))
    return {f"{score_key(r)}/{k}": v for r in results for k, v in r.metrics.items()}


def score_key(result: Result) -> str:
    """What a result's metrics are logged under: its data set, and the task where it is not zero-shot."""
    return result.dataset if result.task.startswith("zeroshot") else f"{result.dataset}/{result.task}"
