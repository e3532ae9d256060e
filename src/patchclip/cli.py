"""The command line: thin verbs over the library. What loads torch is imported by the verb that needs it."""

import argparse
import json
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import patchclip
from patchclip import registry
from patchclip._config_file import list_keys, list_recipes
from patchclip.config import TrainConfig, load_config
from patchclip.errors import ConfigError, Interrupted, PatchclipError

if TYPE_CHECKING:
    from patchclip.engine.train import StepInfo

FAMILIES = {"maskers": "masking", "losses": "losses", "clippers": "stability"}
"""Plural on the command line -> registry family."""

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        The exit code: 0, the `exit_code` of a PatchclipError, or 128 + the signal's number after a signal.
    """
    arguments = parse(argv)
    _start_logging()
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
        return code
    except PatchclipError as error:
        prefix = "patchclip: " if isinstance(error, Interrupted) else "patchclip: error: "
        print(f"{prefix}{error}", file=sys.stderr)
        if getattr(arguments, "json", False):
            print(json.dumps({"error": str(error), "exit_code": error.exit_code}))
        return error.exit_code
    except KeyboardInterrupt:
        print("patchclip: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of one command; its handler is `.run`. Settings may stand anywhere after `train`."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and (arguments.verb != "train" or any(word.startswith("-") for word in rest)):
        hint = "; settings are written key=value, as train.epochs=5" if arguments.verb == "train" else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if rest:
        arguments.settings += rest
    return arguments


def build_parser() -> argparse.ArgumentParser:
    """The parser of every verb."""
    parser = argparse.ArgumentParser(prog="patchclip", description=patchclip.__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"patchclip {patchclip.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    train = _verb(verbs, "train", _train, "train a CLIP, evaluate it and write a report", _settings_help())
    train.add_argument("--config", metavar="FILE", help="a YAML file or the name of a recipe, as demo")
    train.add_argument("--resume", action="store_true", help="continue the run in the output folder, if any")
    train.add_argument("--no-report", action="store_true", help="skip report.html")
    train.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="override a setting, see below")

    evaluate = _verb(verbs, "eval", _eval, "evaluate a model zero-shot")
    evaluate.add_argument("--model", required=True, help="a run folder, checkpoint, or open_clip NAME[:TAG]")
    evaluate.add_argument(
        "--data-root", default="samples", help="folder of data sets, or 'samples' (default)"
    )
    evaluate.add_argument("--datasets", metavar="A,B", help="data sets under the root (default: all)")
    evaluate.add_argument("--output", metavar="DIR", help="write one JSON file a data set")
    evaluate.add_argument("--batch-size", type=int, default=128, help="images encoded at once (default: 128)")

    listing = _verb(verbs, "list", _list, "print what there is, with references")
    listing.add_argument("what", choices=[*FAMILIES, "models", "datasets", "recipes"])

    show = _verb(verbs, "show", _show, "print a method's options and docstring")
    show.add_argument("method", metavar="FAMILY/NAME", help="for instance masking/pgs")

    report = _verb(verbs, "report", _report, "write report.html of a run again")
    report.add_argument("folder", type=Path, metavar="RUN", help="the run folder")
    return parser


def _verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser


def _train(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.settings)
    from patchclip.engine.train import train

    with _progress_bar() as on_step:
        result = train(config, resume=arguments.resume, on_step=on_step)
    if not _is_main_process():
        return 0
    summary: dict[str, Any] = {"run": str(result.run), "status": result.status, "step": result.step}
    scores = [json.loads(file.read_text("utf-8")) for file in sorted((result.run / "eval").glob("*.json"))]
    summary["eval"] = {score["dataset"]: score["metrics"] for score in scores}
    last = f"done: {result.run}"
    if not arguments.no_report:
        from patchclip.report.run_report import write_report

        summary["report"] = str(write_report(result.run))
        last = f"done: {summary['report']}"
    _finish(arguments, summary, *_score_lines(scores), last)
    return 0


def _eval(arguments: argparse.Namespace) -> int:
    from patchclip.evaluation._runner import evaluate
    from patchclip.models.towers import load

    chosen = arguments.datasets.split(",") if arguments.datasets else None
    encoder = load(arguments.model)
    with _evaluation_bar() as on_progress:
        results = evaluate(
            encoder,
            arguments.data_root,
            chosen,
            batch_size=arguments.batch_size,
            output=Path(arguments.output) if arguments.output else None,
            on_progress=on_progress,
        )
    scores = [result.to_json() for result in results]
    where = f"written to {arguments.output}" if arguments.output else "not written: --output DIR keeps them"
    _finish(arguments, {"model": arguments.model, "results": scores}, *_score_lines(scores), f"done: {where}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    if arguments.what in FAMILIES:
        entries = registry.describe(FAMILIES[arguments.what])
    elif arguments.what == "recipes":
        entries = list_recipes()
    elif arguments.what == "models":
        from patchclip.models.towers import list_models

        entries = [registry.Entry(*row) for row in list_models()]
    else:
        from patchclip.data.benchmarks import list_datasets

        entries = [registry.Entry(*row) for row in list_datasets()]
    _finish(arguments, {arguments.what: [vars(entry) for entry in entries]}, *_columns(entries))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    family, slash, name = arguments.method.partition("/")
    if not slash:
        raise ConfigError(f"{arguments.method!r} must read FAMILY/NAME, as masking/pgs")
    text = registry.show(FAMILIES.get(family, family), name)
    _finish(arguments, {"method": arguments.method, "text": text}, text)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from patchclip.report.run_report import write_report

    path = write_report(arguments.folder)
    _finish(arguments, {"run": str(arguments.folder), "report": str(path)}, f"done: {path}")
    return 0


def _finish(arguments: argparse.Namespace, summary: dict[str, Any], *lines: str) -> None:
    """Print the result: one JSON object with --json, the lines otherwise."""
    print(json.dumps(summary) if arguments.json else "\n".join(lines))


def _score_lines(scores: Sequence[dict[str, Any]]) -> Iterator[str]:
    for score in scores:
        chance = score.get("chance", {})
        for metric, value in score["metrics"].items():
            level = f"   chance {chance[metric]:6.1%}" if metric in chance else ""
            yield f"{score['dataset']:<24} {metric:<28} {value:6.1%}{level}"


def _columns(entries: Sequence[registry.Entry]) -> Iterator[str]:
    """Name, summary and reference side by side, wrapped to the terminal."""
    first = max((len(entry.name) for entry in entries), default=0) + 2
    space = max(40, min(shutil.get_terminal_size((100, 24)).columns, 160) - first - 3)
    third = min(max((len(entry.source) for entry in entries), default=0), space // 2)
    second = min(max((len(entry.summary) for entry in entries), default=0), space - third)
    for entry in entries:
        left = textwrap.wrap(entry.summary, second, break_on_hyphens=False) or [""]
        right = textwrap.wrap(entry.source, third, break_on_hyphens=False) if entry.source else []
        for name, summary, source in zip_longest([entry.name], left, right, fillvalue=""):
            yield f"{name:<{first}}{summary:<{second}}   {source}".rstrip()


def _settings_help() -> str:
    """Every configuration key with its default and one line, grouped by section."""
    lines = ["settings (KEY=VALUE, the value is YAML; the default is in brackets):"]
    section = None
    for doc in list_keys(TrainConfig):
        if doc.path.partition(".")[0] != section:
            section = doc.path.partition(".")[0]
            lines.append("")
        default = json.dumps(doc.default) if not isinstance(doc.default, str) else doc.default
        text = f"{doc.text} [{default}]"
        first = f"  {doc.path:<26}"
        indent = " " * len(first)
        lines += textwrap.wrap(
            text, 98, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
        )
    return "\n".join(
        [*lines, "", "example: patchclip train --config demo train.epochs=5 masking.name=random"]
    )


@contextmanager
def _progress_bar() -> Iterator[Callable[["StepInfo"], None]]:
    """A bar on stderr from the first step on, with loss, images/s and time left."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    style = "{desc}{percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt}{postfix}"
    every = 0.5 if sys.stderr.isatty() else 10.0
    with ExitStack() as stack:
        bars: list[tqdm] = []

        def on_step(info: "StepInfo") -> None:
            if not bars:
                stack.enter_context(logging_redirect_tqdm())
                silent = not _is_main_process()
                made = tqdm(total=info.total_steps, desc="train ", bar_format=style, disable=silent)
                made.mininterval = every
                bars.append(stack.enter_context(made))
            bar, left = bars[0], tqdm.format_interval(info.seconds_left)
            text = f"loss {info.loss:.3f}, {info.images_per_s:.0f} images/s, {left} left"
            bar.set_postfix_str(text, refresh=False)
            bar.update(info.step - bar.n)

        yield on_step


@contextmanager
def _evaluation_bar() -> Iterator[Callable[[str, int, int], None]]:
    from tqdm import tqdm

    with tqdm(desc="eval", unit=" images", leave=False) as bar:

        def on_progress(name: str, done: int, total: int) -> None:
            bar.set_description_str(name, refresh=False)
            bar.total, bar.n = total, done
            bar.refresh()

        yield on_progress


def _start_logging() -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("patchclip").setLevel(logging.INFO if _is_main_process() else logging.WARNING)


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"
