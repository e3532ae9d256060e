"""The verb that looks at embeddings: geometry."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patchclip._cli_bars import evaluation_bar
from patchclip._cli_cache import cache_folder
from patchclip._cli_format import finish

GEOMETRY_EPILOG = """MODEL is a run folder, checkpoint, open_clip NAME:TAG, hf:ORG/NAME or hf-hub:ORG/NAME.
DATA is a retrieval set under --data-root, or image-text pairs as training takes them ('pairs/*.tar',
pairs.csv, a folder). Of several captions of an image the first is taken.

DIR receives report.html and geometry.json.

example: patchclip geometry runs/demo retrieval_mixed --output geometry"""

Verb = Callable[..., argparse.ArgumentParser]


def add_verbs(verbs: Any, verb: Verb) -> None:
    """Adds the parser of geometry."""
    words = "show how the embeddings of a model lie and what they are made of"
    geometry = verb(verbs, "geometry", run_geometry, words, GEOMETRY_EPILOG)
    geometry.add_argument("model", metavar="MODEL", help="the model, see below")
    geometry.add_argument(
        "data",
        nargs="?",
        default="retrieval_mixed",
        metavar="DATA",
        help="captioned images (retrieval_mixed)",
    )
    geometry.add_argument("--output", required=True, metavar="DIR", help="folder for the page and figures")
    geometry.add_argument(
        "--data-root", default="samples", metavar="DIR", help="folder of data sets, or samples (default)"
    )
    geometry.add_argument(
        "--count", type=int, default=2000, metavar="N", help="pairs at most (default: 2000)"
    )
    geometry.add_argument("--seed", type=int, default=0, help="of the sample of pairs (default: 0)")
    geometry.add_argument(
        "--words", metavar="FILE", help="texts to describe heads with, a line each (default: captions' nouns)"
    )
    geometry.add_argument("--batch-size", type=int, metavar="N", help="images a pass (default: by memory)")
    geometry.add_argument("--precision", default="fp32", help="fp32 (default), bf16 or fp16")
    geometry.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    geometry.add_argument(
        "--cache", metavar="DIR", help="keeps embeddings (default: patchclip/embeddings in the user's cache)"
    )
    geometry.add_argument("--no-cache", action="store_true", help="keep no embeddings")


def run_geometry(arguments: argparse.Namespace) -> int:
    """patchclip geometry."""
    from patchclip.evaluation.embedder import Encoding
    from patchclip.models.towers import load
    from patchclip.report.geometry.report import Asked, write_geometry

    file = Path(arguments.words) if arguments.words else None
    asked = Asked(arguments.data, arguments.data_root, arguments.count, arguments.seed, file)
    encoder = load(arguments.model, device=arguments.device, precision=arguments.precision)
    with evaluation_bar() as on_progress:
        encoding = Encoding(arguments.batch_size, cache_folder(arguments), on_progress=on_progress)
        found = write_geometry(encoder, arguments.output, asked, encoding)
    result = {"report": str(found.page), "figures": str(found.figures), **found.summary}
    finish(arguments, result, *_lines(found.summary), f"done: {found.page}")
    return 0


def _lines(summary: dict[str, Any]) -> list[str]:
    """The main figures, and what the page lacks."""
    lines = [f"{summary['pairs']} pairs of {summary['dataset']}, width {summary['width']}"]
    gap = summary["analyses"].get("modality_gap", {})
    shown = ("centroid_distance", "alignment_score", "uniformity_image", "uniformity_text")
    lines += [f"{name} {gap[name]:.4g}" for name in shown if name in gap]
    apart = summary["taken_apart"]
    if apart is not None:
        heads = sum(head["share"] for head in apart["heads"])
        lines.append(f"last heads {heads:.1%} of the variance, sum of all parts off by {apart['error']:.1e}")
    else:
        lines.append(f"no heads: {summary['not_taken_apart']}")
    lines += [f"no {name}: {why}" for name, why in summary["failed"].items()]
    return [*lines, *([f"{len(summary['bad'])} images could not be read"] if summary["bad"] else [])]
