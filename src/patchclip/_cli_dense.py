"""The verbs that look into pictures: segment and point."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchclip._cli_bars import evaluation_bar
from patchclip._cli_format import finish
from patchclip.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL import Image

SEGMENT_EPILOG = """An IMAGE is a file, a folder or a pattern in quotes, as 'photos/*.jpg'.
In --labels commas divide labels and | divides names of one label: "cat, dog|puppy". A .txt file holds one
label a line; names after the first, divided by commas, mean the same.

DIR receives for each image NAME_overlay.png, NAME_labels.png and NAME_heat_LABEL.png, and for the whole call
annotations.json (COCO, run-length encoded) and areas.csv.

example: patchclip segment photo.jpg --labels "cat, dog|puppy, grass" --output out"""

POINT_EPILOG = """example: patchclip point photo.jpg "the red mug" --output heat.png"""

MOST_LABELS = 65535
LARGEST_LIST = 1 << 24
TOGETHER = (16, 1 << 24)
"""Images, and pixels, that are read before they are segmented together."""

Verb = Callable[..., argparse.ArgumentParser]


def add_verbs(verbs: Any, verb: Verb) -> None:
    """Adds the parsers of segment and point."""
    segment = verb(verbs, "segment", run_segment, "find labels in pictures, pixel by pixel", SEGMENT_EPILOG)
    segment.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders or quoted patterns")
    segment.add_argument("--labels", required=True, metavar="A,B", help="labels, or a .txt file of them")
    segment.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    segment.add_argument(
        "--background",
        default="auto",
        metavar="RULE",
        help="what gets no label: auto (default), none, entropy, entropy:NATS, or a threshold in (0, 1)",
    )
    segment.add_argument("--keep-labels", type=int, metavar="N", help="only the N that fit an image best")
    segment.add_argument(
        "--heats", type=int, default=20, metavar="N", help="heat maps an image (default: 20)"
    )
    segment.add_argument("--font", metavar="FILE", help="TrueType font of the legend")
    _add_settings(segment)

    point = verb(verbs, "point", run_point, "find the place that a phrase describes", POINT_EPILOG)
    point.add_argument("image", metavar="IMAGE", help="an image file")
    point.add_argument("phrase", metavar="PHRASE", help="what to look for, as 'the red mug'")
    point.add_argument("--output", metavar="FILE", help="draw heat, box and point: .png, .webp or .jpg")
    point.add_argument(
        "--threshold", type=float, default=0.5, metavar="T", help="heat at the border of the box (0.5)"
    )
    _add_settings(point)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """The settings that both verbs pass on."""
    model = "a run folder, checkpoint, or open_clip NAME:TAG (default: ViT-B-16:openai)"
    parser.add_argument("--model", default="ViT-B-16:openai", help=model)
    parser.add_argument(
        "--method",
        default="auto",
        metavar="NAME",
        help="NAME or NAME:key=value;key=value (default: pacl if the model has a trained head, else naclip)",
    )
    parser.add_argument(
        "--prompts",
        default="pacl7",
        metavar="SET",
        help="pacl7 (default), tcl9, openai80, photo, plain, or one",
    )
    parser.add_argument(
        "--short-side", type=int, metavar="PX", help="of the resized image (default: 2 inputs)"
    )
    parser.add_argument("--window", type=int, metavar="PX", help="0 for the whole image (default: the input)")
    parser.add_argument("--stride", type=int, metavar="PX", help="between windows (default: half a window)")
    parser.add_argument("--step", type=int, metavar="PX", help="between patches (default: a patch)")
    parser.add_argument("--refine", metavar="NAME", help="a refinement by the image's colours")
    parser.add_argument("--batch-size", type=int, metavar="N", help="windows a pass (default: by memory)")
    parser.add_argument("--longest", type=int, metavar="PX", help="make larger pictures this long first")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    parser.add_argument("--precision", default="fp32", help="fp32 (default), bf16 or fp16")


SETTINGS = ("method", "prompts", "short_side", "window", "stride", "step", "refine", "batch_size")
LOADING = ("device", "precision")
KINDS = ("overlay", "labels", "heat_")
"""How the names of results go on after the image's."""


def run_segment(arguments: argparse.Namespace) -> int:
    """patchclip segment."""
    from patchclip.data.pictures import find_images
    from patchclip.dense.files import make_folder, picture_names
    from patchclip.dense.results import Results
    from patchclip.dense.segment import prepared
    from patchclip.dense.segmenter import Segmenter

    labels = read_labels(arguments.labels)
    files = find_images(arguments.images)
    names = picture_names((file.stem for file in files), [label[0] for label in labels])
    folder = _check_folder(Path(arguments.output), arguments.images, files, names)
    chosen = {name: getattr(arguments, name) for name in (*SETTINGS, *LOADING, "background", "keep_labels")}
    encoder, inference = prepared(arguments.model, chosen)
    segmenter = Segmenter(encoder, labels, inference)
    results = Results(make_folder(folder), arguments.heats, arguments.font)
    with evaluation_bar() as on_progress:
        try:
            for group in _groups(files, names, arguments.longest, results.bad):
                found = segmenter.each([picture for _, _, picture in group])
                for (file, name, _), each in zip(group, found, strict=True):
                    results.add(each, file, name)
                    on_progress("segment", len(results.images) + len(results.bad), len(files))
        except BaseException:  # what is there is written down, also after Ctrl-C
            results.rescue()
            raise
    summary = results.write()
    finish(arguments, summary, *results.lines(), f"done: {folder}")
    return DataError.exit_code if results.bad else 0


def run_point(arguments: argparse.Namespace) -> int:
    """patchclip point."""
    from patchclip.dense.pointing import point
    from patchclip.report.sheet import check_output, save_sheet

    output = check_output(arguments.output) if arguments.output else None
    if output is not None and output.resolve() == Path(arguments.image).resolve():
        raise ConfigError(f"output={str(output)!r} is the image: it would be overwritten")
    chosen = {name: getattr(arguments, name) for name in (*SETTINGS, *LOADING, "longest", "threshold")}
    found = point(arguments.image, arguments.phrase, arguments.model, **chosen)
    summary: dict[str, Any] = {"file": arguments.image, **found.to_json()}
    x, y = found.point
    lines = [f"point {x:.1f} {y:.1f}", "box {} {} {} {}".format(*found.box), f"score {found.score:.3f}"]
    if output is not None:
        summary["output"] = str(save_sheet(found.draw(), output))
        lines.append(f"done: {output}")
    finish(arguments, summary, *lines)
    return 0


def read_labels(text: str) -> list[tuple[str, ...]]:
    """Labels with their names, from the command line or a text file.

    Args:
        text: "cat, dog|puppy", or the name of a .txt file with a label a line, its names divided by commas.

    Raises:
        ConfigError: no label, an empty name, or more labels than fit a PNG of 16 bits.
        DataError: a file that cannot be read.
    """
    if not text.lower().endswith(".txt"):
        rows = [(part, part.split("|"), "--labels") for part in text.split(",")]
    else:
        lines = enumerate(_read_text(Path(text)).splitlines())
        rows = [(line, line.split(","), f"{text}:{i + 1}") for i, line in lines if line.strip()]
    if not 1 <= len(rows) <= MOST_LABELS:
        raise ConfigError(f"{text[:80]!r} holds {len(rows)} labels: there must be 1 to {MOST_LABELS}")
    labels = []
    for part, group, where in rows:
        names = tuple(name.strip() for name in group)
        if not all(names):
            raise ConfigError(
                f"{where}: {part.strip()!r} holds an empty name: leave out what divides nothing"
            )
        labels.append(names)
    return labels


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_LIST:
            raise DataError(f"{path} has more than {LARGEST_LIST} bytes: name a file with a label a line")
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): name a file with a label a line"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from error


def _check_folder(folder: Path, inputs: Sequence[str], files: Sequence[Path], names: Sequence[str]) -> Path:
    """The output folder.

    Raises:
        ConfigError: results would be taken for images in the next call, or would replace an image.
    """
    if any(Path(each).is_dir() and Path(each).resolve() == folder.resolve() for each in inputs):
        raise ConfigError(
            f"output={str(folder)!r} is a folder of images: choose another one, "
            "or the next call takes results for images"
        )
    for file in files:
        if file.parent.resolve() == folder.resolve():
            same = next(
                (name for name in names if file.name.startswith(tuple(f"{name}_{each}" for each in KINDS))),
                "",
            )
            if same:
                raise ConfigError(
                    f"output={str(folder)!r}: the results for {same!r} may replace the image {file.name}: "
                    "choose another folder"
                )
    return folder


def _groups(
    files: Sequence[Path], names: Sequence[str], longest: int | None, bad: list[dict[str, str]]
) -> "Iterator[list[tuple[Path, str, Image.Image]]]":
    """Pictures that are segmented together; those that cannot be read go to `bad`."""
    from patchclip.data.pictures import read_picture

    group: list[tuple[Path, str, Image.Image]] = []
    pixels = 0
    for file, name in zip(files, names, strict=True):
        try:
            picture = read_picture(file, longest)
        except DataError as error:
            bad.append({"file": str(file), "reason": str(error)})
            continue
        group.append((file, name, picture))
        pixels += picture.width * picture.height
        if len(group) == TOGETHER[0] or pixels >= TOGETHER[1]:
            yield group
            group, pixels = [], 0
    if group:
        yield group
