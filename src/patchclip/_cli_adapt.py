"""The verb that adapts a model to a set: adapt."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patchclip._cli_bars import evaluation_bar
from patchclip._cli_cache import cache_folder
from patchclip._cli_format import finish

ADAPT_EPILOG = """Methods on embeddings (gda) and of the towers (clipood, clip_svd) learn from the train split
of a set; methods that learn from captions (labclip) from a captioned set or from pairs: samples, shards, a
table. patchclip list adapters names them, patchclip show adapters/NAME prints their options.
DIR then holds result.json, report.html and what the first seed fitted: adapter.json with its tensors, or
model/, a plain open_clip checkpoint for patchclip eval --model DIR/model. DIR is new, empty, or that of an
earlier adaptation, which is replaced; never the folder of a run.

example: patchclip adapt runs/demo zs_clipart --method gda --shots 4 --output runs/demo/gda"""

Verb = Callable[..., argparse.ArgumentParser]


def add_verbs(verbs: Any, verb: Verb) -> None:
    """Adds the parser of adapt."""
    adapt = verb(verbs, "adapt", run_adapt, "adapt a model to a set and compare with zero-shot", ADAPT_EPILOG)
    adapt.add_argument("model", metavar="MODEL", help="run folder, checkpoint, open_clip NAME:TAG")
    adapt.add_argument("data", metavar="DATA", help="a set with a train split, or captioned images")
    adapt.add_argument(
        "--method", default="gda", metavar="NAME", help="NAME or NAME:key=value;key=value (default: gda)"
    )
    adapt.add_argument("--shots", type=int, default=4, metavar="K", help="images a class, 0 all (default: 4)")
    adapt.add_argument("--seeds", type=int, default=3, metavar="N", help="draws of the images (default: 3)")
    adapt.add_argument("--seed", type=int, default=0, help="of the first draw (default: 0)")
    adapt.add_argument(
        "--new-classes",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the classes, learned without images",
    )
    adapt.add_argument(
        "--views",
        type=int,
        default=0,
        metavar="N",
        help="random crops of each image (default: the image itself)",
    )
    adapt.add_argument(
        "--negatives", default="hard", metavar="NAME", help="what makes false captions (default: hard)"
    )
    adapt.add_argument(
        "--pairs", type=int, default=0, metavar="N", help="captioned images used (default: all)"
    )
    adapt.add_argument(
        "--data-root", default="samples", metavar="DIR", help="folder of data sets, or samples"
    )
    adapt.add_argument("--output", metavar="DIR", help="keep figures, report and what was fitted")
    adapt.add_argument("--batch-size", type=int, metavar="N", help="images a pass (default: by memory)")
    adapt.add_argument("--precision", default="fp32", help="fp32 (default), bf16 or fp16")
    adapt.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    adapt.add_argument("--cache", metavar="DIR", help="keeps embeddings (default: as eval)")
    adapt.add_argument("--no-cache", action="store_true", help="keep no embeddings")


def run_adapt(arguments: argparse.Namespace) -> int:
    """patchclip adapt."""
    from patchclip.engine.adapting.run import adapt, check
    from patchclip.engine.adapting.settings import Settings
    from patchclip.evaluation.embedder import Encoding
    from patchclip.models.towers import load

    settings = Settings(
        shots=arguments.shots,
        seeds=arguments.seeds,
        first_seed=arguments.seed,
        new_classes=arguments.new_classes,
        views=arguments.views,
        negatives=arguments.negatives,
        pairs=arguments.pairs,
        data_root=arguments.data_root,
    )
    output = Path(arguments.output) if arguments.output else None
    check(arguments.method, settings, output, arguments.model)  # told before the model is loaded
    encoder = load(arguments.model, device=arguments.device, precision=arguments.precision)
    with evaluation_bar() as on_progress:
        encoding = Encoding(arguments.batch_size, cache_folder(arguments), on_progress=on_progress)
        found = adapt(encoder, arguments.data, arguments.method, settings, output=output, encoding=encoding)
    summary: dict[str, Any] = found.to_json()
    last = "done: not written, --output DIR keeps it"
    if output is not None:
        from patchclip.report.adapt.page import write_adapt_report

        summary["report"] = str(write_adapt_report(output))
        last = f"done: {summary['report']}"
    finish(arguments, summary, *found.lines(), last)
    return 0
