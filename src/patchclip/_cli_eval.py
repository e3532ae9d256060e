"""The verbs that measure models: eval and compare."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from patchclip._cli_bars import evaluation_bar
from patchclip._cli_cache import cache_folder
from patchclip._cli_format import finish, missing_lines, score_lines

EVAL_EPILOG = """A suite takes options as NAME:key=value;key=value, as in 'linear-probe:shots=[1,4,16]';
patchclip show suites/NAME prints them. Data sets are names under the root, clip_benchmark's wds/NAME and
lists (vtab, vtab+, retrieval, imagenet-robustness, sugar-crepe), hf:ORG/NAME, or text files of names.

example: patchclip eval --model runs/demo ViT-B-32:openai --suite all --data-root DIR --output evals"""

COMPARE_EPILOG = """A RUN is a folder that eval wrote, or a run folder with eval/ in it. The first model is
the baseline; an interval that leaves out 0 is marked with *.

example: patchclip compare runs/flip runs/pgs --output compare.html"""

Verb = Callable[..., argparse.ArgumentParser]


def add_verbs(verbs: Any, verb: Verb) -> None:
    """Adds the parsers of eval and compare."""
    words = "evaluate models and write a report"
    evaluate = verb(verbs, "eval", run_eval, words, EVAL_EPILOG)
    evaluate.add_argument(
        "--model",
        nargs="+",
        required=True,
        metavar="MODEL",
        help="run folders, checkpoints, open_clip NAME:TAG, hf:ORG/NAME, hf-hub:ORG/NAME",
    )
    evaluate.add_argument("--suite", default="all", metavar="A,B", help="names of suites, or all (default)")
    evaluate.add_argument(
        "--data-root", default="samples", metavar="DIR", help="folder of data sets, or samples (default)"
    )
    evaluate.add_argument(
        "--datasets", metavar="A,B", help="data sets under the root (default: all), or things:COUNT"
    )
    evaluate.add_argument("--classnames", metavar="FILE", help="class names, .txt or clip_benchmark's JSON")
    evaluate.add_argument("--templates", metavar="FILE", help="prompts, as .txt or clip_benchmark's JSON")
    evaluate.add_argument(
        "--output", metavar="DIR", help="write a JSON file a result, results.csv and report.html"
    )
    evaluate.add_argument("--batch-size", type=int, metavar="N", help="images a pass (default: by memory)")
    evaluate.add_argument("--precision", default="fp32", help="fp32 (default), bf16 or fp16")
    evaluate.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    evaluate.add_argument(
        "--context", metavar="NAME", help="reads longer captions: long_clip, clipmd, clipmd:stride=70"
    )
    evaluate.add_argument(
        "--cache", metavar="DIR", help="keeps embeddings (default: patchclip/embeddings in the user's cache)"
    )
    evaluate.add_argument("--no-cache", action="store_true", help="keep no embeddings")

    compare = verb(verbs, "compare", run_compare, "put evaluated models side by side", COMPARE_EPILOG)
    compare.add_argument("runs", nargs="+", metavar="RUN", help="folders of results, the baseline first")
    compare.add_argument("--draws", type=int, default=2000, help="bootstrap draws (default: 2000)")
    compare.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    compare.add_argument("--output", metavar="FILE", help="write the table as a page, FILE.html")


def run_eval(arguments: argparse.Namespace) -> int:
    """patchclip eval."""
    from patchclip.errors import DataError
    from patchclip.evaluation._runner import evaluate
    from patchclip.evaluation.embedder import Encoding

    output = Path(arguments.output) if arguments.output else None
    with evaluation_bar() as on_progress:
        encoding = Encoding(arguments.batch_size, cache_folder(arguments), on_progress=on_progress)
        datasets = _datasets(arguments)
        try:
            results = evaluate(
                *(_encoders(arguments), arguments.suite, arguments.data_root, datasets),
                output=output,
                encoding=encoding,
            )
        finally:  # also where a later model cannot be loaded: what is there is shown
            pages = {} if output is None else _pages(output)
    scores = [result.to_json() for result in results]
    summary: dict[str, Any] = {"model": arguments.model[0], "models": arguments.model, "results": scores}
    summary |= {"missing": [vars(each) for each in results.missing], **pages}
    where = pages.get("report") or "not written: --output DIR keeps them"
    lost = list(missing_lines(results.missing))
    finish(arguments, summary, *score_lines(scores), *lost, f"done: {where}" if scores else "nothing done")
    damaged = any(each.damaged for each in results.missing)
    return DataError.exit_code if damaged or not scores else 0


def _encoders(arguments: argparse.Namespace) -> Iterator[Any]:
    """The models one after the other; settings that are not the usual ones are part of the name."""
    from patchclip.models.towers import load

    notes = [arguments.precision] if arguments.precision != "fp32" else []
    notes += [arguments.context] if arguments.context else []
    notes += [Path(file).name for file in (arguments.classnames, arguments.templates) if file]
    for model in arguments.model:
        settings = {"device": arguments.device, "precision": arguments.precision}
        encoder = load(model, **settings, context=arguments.context)
        if notes:
            encoder.name = f"{encoder.name} ({', '.join(notes)})"
        yield encoder


def _pages(output: Path) -> dict[str, str]:
    """The table and the page of what lies in the output folder, if there is anything."""
    from patchclip.report.eval_report import read_results, write_csv, write_eval_report

    if not output.is_dir() or not read_results(output):
        return {}
    return {"csv": str(write_csv(output)), "report": str(write_eval_report(output))}


def _datasets(arguments: argparse.Namespace) -> list[Any] | None:
    """What to evaluate: names, or sets with the class names and prompts that were given."""
    names = arguments.datasets.split(",") if arguments.datasets else None
    if not arguments.classnames and not arguments.templates:
        return names
    from patchclip.data.prompt_files import with_prompts
    from patchclip.evaluation._runner import usable_sets

    sets, missing = usable_sets(arguments.data_root, names)
    changed = [with_prompts(each, arguments.classnames, arguments.templates) for each in sets]
    return [*changed, *(each.asked for each in missing)]


def run_compare(arguments: argparse.Namespace) -> int:
    """patchclip compare."""
    from patchclip.evaluation.compare import compare

    found = compare([Path(run) for run in arguments.runs], draws=arguments.draws, seed=arguments.seed)
    summary = found.to_json()
    last = []
    if arguments.output:
        from patchclip.report.compare import write_comparison

        summary["output"] = str(write_comparison(found, Path(arguments.output)))
        last = [f"done: {summary['output']}"]
    finish(arguments, summary, *found.lines(), *last)
    return 0
