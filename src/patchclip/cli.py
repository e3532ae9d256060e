"""The command line: thin verbs over the library. What loads torch is imported by the verb that needs it."""

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import patchclip
from patchclip import _cli_adapt, _cli_data, _cli_dense, _cli_doctor, _cli_eval, _cli_geometry, registry
from patchclip._cli_bars import is_main_process, progress_bar
from patchclip._cli_format import (
    columns,
    eval_scores,
    finish,
    mask_lines,
    score_lines,
    score_name,
    settings_help,
)
from patchclip._config_file import list_recipes
from patchclip.config import TrainConfig, chooses, load_config
from patchclip.errors import ConfigError, Interrupted, PatchclipError

FAMILIES = {
    "maskers": "masking",
    "losses": "losses",
    "clippers": "stability",
    "reducers": "reduction",
    "suites": "suites",
    "heads": "heads",
    "dense-methods": "dense",
    "refinements": "refinement",
    "corruptors": "corruptors",
    "contexts": "context",
    "maps": "maps",
    "scores": "scores",
    "adapters": "adapt",
    "analyses": "geometry",
    "explanations": "explanations",
}
"""Plural on the command line -> registry family."""

ALIGN_RECIPE = "pacl_vit_b16"
ALIGN_EPILOG = f"""Without --config the recipe {ALIGN_RECIPE} is taken. The model may be a run folder.

example: patchclip align model=runs/demo data=samples output=runs/aligned"""

MASKS_EPILOG = """A strategy takes options as NAME:key=value;key=value, for instance 'pgs:protect=0.2'.
The foreground of NAME.jpg comes from --mask, NAME.mask.png or NAME.inst.png beside it, or its alpha channel.

example: patchclip masks cat.jpg dog.jpg --strategies random,pgs --compare --output masks.png"""

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
    """Arguments of one command; its handler is `.run`. Settings may stand anywhere after the verb."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    trains = arguments.verb in ("train", "align")
    if rest and (not trains or any(word.startswith("-") for word in rest)):
        hint = "; settings are written key=value, as train.epochs=5" if trains else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if rest:
        arguments.settings += rest
    return arguments


def build_parser() -> argparse.ArgumentParser:
    """The parser of every verb."""
    parser = argparse.ArgumentParser(prog="patchclip", description=patchclip.__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"patchclip {patchclip.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    _add_training(
        _verb(verbs, "train", _train, "train a CLIP, evaluate it and write a report", settings_help())
    )
    words = "train a head that aligns the patches of a frozen CLIP with texts (PACL)"
    _add_training(_verb(verbs, "align", _align, words, f"{ALIGN_EPILOG}\n\n{settings_help()}"))

    _cli_eval.add_verbs(verbs, _verb)
    _cli_adapt.add_verbs(verbs, _verb)
    _cli_dense.add_verbs(verbs, _verb)
    _cli_doctor.add_verbs(verbs, _verb)
    _cli_data.add_verbs(verbs, _verb)
    _cli_geometry.add_verbs(verbs, _verb)
    _add_masks(verbs)

    listing = _verb(verbs, "list", _list, "print what there is, with references")
    what = dict.fromkeys([*FAMILIES, *FAMILIES.values(), "models", "datasets", "recipes"])
    listing.add_argument("what", choices=list(what), metavar="WHAT", help=", ".join(what))

    show = _verb(verbs, "show", _show, "print a method's options and docstring")
    show.add_argument("method", metavar="FAMILY/NAME", help="for instance masking/pgs")

    report = _verb(verbs, "report", _report, "write report.html of a run again")
    report.add_argument("folder", type=Path, metavar="RUN", help="the run folder")
    return parser


def _add_training(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train` and `align`."""
    parser.add_argument("--config", metavar="FILE", help="a YAML file or the name of a recipe, as demo")
    parser.add_argument("--resume", action="store_true", help="continue the run in the output folder, if any")
    parser.add_argument("--no-report", action="store_true", help="skip report.html")
    parser.add_argument("--dry-run", action="store_true", help="print what the run would take, train nothing")
    parser.add_argument("--gpus", type=int, metavar="N", help="GPUs of a dry run (default: 8)")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="override a setting, see below")


def _add_masks(verbs: Any) -> None:
    """The parser of `masks`."""
    masks = _verb(verbs, "masks", _masks, "draw what each masking strategy keeps of images", MASKS_EPILOG)
    masks.add_argument("images", nargs="+", metavar="IMAGE", help="image files, a row for each")
    masks.add_argument(
        "--output", default="masks.png", metavar="FILE", help=".png, .webp or .jpg (masks.png)"
    )
    masks.add_argument(
        "--strategies", default="all", metavar="A,B", help="names of maskers, or all (default)"
    )
    masks.add_argument("--ratio", type=float, default=0.5, help="share of patches dropped (default: 0.5)")
    masks.add_argument("--compare", action="store_true", help="measure what is kept, too")
    masks.add_argument(
        "--model", help="a run folder, checkpoint, or open_clip NAME:TAG (default: pixels alone)"
    )
    masks.add_argument(
        "--progress", type=float, metavar="P", help="of training, 0 to 1 (1 with a model, else 0)"
    )
    masks.add_argument("--seed", type=int, default=0, help="of the masks (default: 0)")
    masks.add_argument("--text", metavar="WORDS", help="what a text-guided strategy looks for, as 'a cat'")
    masks.add_argument(
        "--size", type=int, metavar="PX", help="side of the crop without a model (default: 224)"
    )
    masks.add_argument(
        "--patch", type=int, metavar="PX", help="side of a patch without a model (default: 16)"
    )
    masks.add_argument(
        "--mask", nargs="+", default=[], metavar="FILE", help="foreground of each image, in order"
    )


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
    return _run_training(arguments, load_config(arguments.config, arguments.settings))


def _align(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config or ALIGN_RECIPE, arguments.settings)
    if not chooses(config, "head"):
        known = ", ".join(registry.names("heads"))
        where = arguments.config or ALIGN_RECIPE
        raise ConfigError(f"{where}: there is no head to align, set head.name=NAME (Known: {known})")
    return _run_training(arguments, config)


def _run_training(arguments: argparse.Namespace, config: TrainConfig) -> int:
    """Trains what a configuration says, or plans it, and writes the report."""
    if arguments.dry_run:
        from patchclip.engine.planning.plan import describe, plan

        found = plan(config, 8 if arguments.gpus is None else arguments.gpus)
        finish(arguments, dataclasses.asdict(found), *describe(found))
        return 0
    if arguments.gpus is not None:
        raise ConfigError(
            "--gpus belongs to --dry-run: torchrun --nproc-per-node says on how many GPUs to train"
        )
    from patchclip.engine.train import train

    with progress_bar() as on_step:
        result = train(config, resume=arguments.resume, on_step=on_step)
    if not is_main_process():
        return 0
    summary: dict[str, Any] = {"run": str(result.run), "status": result.status, "step": result.step}
    scores = eval_scores(result.run / "eval")
    summary["eval"] = {score_name(score): score["metrics"] for score in scores}
    last = f"done: {result.run}"
    if not arguments.no_report:
        from patchclip.report.run_report import write_report

        summary["report"] = str(write_report(result.run))
        last = f"done: {summary['report']}"
    finish(arguments, summary, *score_lines(scores), last)
    return 0


def _masks(arguments: argparse.Namespace) -> int:
    from patchclip.report.mask_sheet import mask_sheet
    from patchclip.report.sheet import check_output

    output = check_output(arguments.output)
    if output.resolve() in {Path(image).resolve() for image in (*arguments.images, *arguments.mask)}:
        raise ConfigError(f"output={str(output)!r} is one of the images: it would be overwritten")
    names = ("strategies", "ratio", "compare", "model", "progress", "seed", "text", "size", "patch")
    settings = {name: getattr(arguments, name) for name in names}
    sheet = mask_sheet(arguments.images, masks=tuple(arguments.mask), **settings)
    path = sheet.save(output)
    summary = {"output": str(path), **sheet.to_json()}
    finish(arguments, summary, *mask_lines(summary), f"done: {path}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    family = FAMILIES.get(arguments.what, arguments.what)
    if family in registry.FAMILIES:
        entries = registry.describe(family)
    elif arguments.what == "recipes":
        entries = list_recipes()
    elif arguments.what == "models":
        from patchclip.models.towers import list_models

        entries = [registry.Entry(*row) for row in list_models()]
    else:
        from patchclip.data.benchmarks import list_datasets

        entries = [registry.Entry(*row) for row in list_datasets()]
    finish(arguments, {arguments.what: [vars(entry) for entry in entries]}, *columns(entries))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    family, slash, name = arguments.method.partition("/")
    if not slash:
        raise ConfigError(f"{arguments.method!r} must read FAMILY/NAME, as masking/pgs")
    text = registry.show(FAMILIES.get(family, family), name)
    finish(arguments, {"method": arguments.method, "text": text}, text)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from patchclip.report.run_report import write_report

    path = write_report(arguments.folder)
    finish(arguments, {"run": str(arguments.folder), "report": str(path)}, f"done: {path}")
    return 0


def _start_logging() -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("patchclip").setLevel(logging.INFO if is_main_process() else logging.WARNING)
