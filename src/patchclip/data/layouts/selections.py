"""Questions that ask which caption belongs to which image, read from the files of their releases.

    NAME/compositional/KIND.json      beside any set, over its own images; SugarCrepe's schema
    NAME/KIND.json, NAME/val2017/     SugarCrepe; val2017/ may lie in a folder beside NAME, too
    NAME/examples.jsonl, NAME/images/ Winoground
    NAME/visual_genome_relation.json, NAME/visual_genome_attribution.json, NAME/images/    ARO

Source: Hsieh et al., SugarCrepe, NeurIPS 2023 Datasets and Benchmarks, arXiv:2306.14610; Thrush et al.,
    Winoground, CVPR 2022, arXiv:2204.03162; Yuksekgonul et al., "When and why vision-language models behave
    like bags-of-words, and what to do about it?", ICLR 2023, arXiv:2210.01936, `dataset_zoo/aro_datasets.py`.
Differs: the true caption comes first everywhere (ARO's code puts the false one first); images are opened once
    for all kinds of a set. ARO's groups are those of its macro accuracy: relations not in SYMMETRIC, pairs
    of attributes with at least 25 questions. Its COCO-Order and Flickr30k-Order are not read.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from patchclip.data import captions
from patchclip.data._decode import IMAGE_EXTENSIONS
from patchclip.data._strings import Strings
from patchclip.data.layouts.stored_images import CroppedImages, FileImages
from patchclip.data.layouts.text_files import field, read_json, read_lines, relative_name
from patchclip.data.sets import Benchmark, Choice, Selection
from patchclip.errors import DataError

SUGAR_CREPE = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
"""The categories of SugarCrepe, as its files are named."""

_SYMMETRIC = """
    adjusting|around|attached to|beside|between|bigger than|biting|boarding|brushing|by|chewing|cleaning|
    climbing|close to|coming from|coming out of|contain|crossing|dragging|draped over|drinking|drinking from|
    driving|driving down|driving on|eating from|eating in|enclosing|exiting|facing|filled with|floating in|
    floating on|flying|flying above|flying in|flying over|flying through|full of|going down|going into|
    going through|grazing in|growing in|growing on|guiding|hanging from|hanging in|hanging off|hanging over|
    higher than|holding onto|hugging|in between|jumping off|jumping on|jumping over|kept in|larger than|
    leading|leaning over|leaving|licking|longer than|looking in|looking into|looking out|looking over|
    looking through|lying next to|lying on top of|making|mixed with|mounted on|moving|near|next to|of|
    on the back of|on the edge of|on the front of|on the other side of|on the side of|opening|painted on|
    parked at|parked beside|parked by|parked in|parked in front of|parked near|parked next to|perched on|
    petting|piled on|playing|playing in|playing on|playing with|pouring|reaching for|reading|reflected on|
    riding on|running in|running on|running through|seen through|sitting behind|sitting beside|sitting by|
    sitting in front of|sitting near|sitting next to|sitting under|skiing down|skiing on|sleeping in|
    sleeping on|smiling at|sniffing|splashing|sprinkled on|stacked on|standing against|standing around|
    standing behind|standing beside|standing in front of|standing near|standing next to|staring at|stuck in|
    surrounding|swimming in|swinging|talking to|topped with|touching|traveling down|traveling on|tying|
    typing on|underneath|wading in|waiting for|walking across|walking by|walking down|walking next to|
    walking through|with|working in|working on|worn on|wrapped around|wrapped in
    """
SYMMETRIC = frozenset(" ".join(each.split()) for each in _SYMMETRIC.split("|"))
"""Relations that ARO's notebook leaves out of its mean as `symmetric`; not all of them are."""

_LEAST = 25
"""Questions of a pair of attributes below which ARO leaves the pair out; relations have no such bound."""

_ARO = {"relation": "visual_genome_relation.json", "attribution": "visual_genome_attribution.json"}
_SIDE = 1 << 14
_Question = tuple[str, str, str, str]  # image file, true caption, false caption, place in the file


def selections_of(folder: Path, benchmark: Benchmark) -> list[Selection]:
    """The selections over the images of an open set: one for each NAME/compositional/KIND.json.

    Raises:
        DataError: A file is damaged or names an image that the set does not have.
    """
    files = sorted((folder / "compositional").glob("*.json"))
    if not files:
        return []
    names = getattr(benchmark.images, "names", None)
    if names is None:
        raise DataError(
            f"{files[0]} needs a set whose images are files or tar members; move it to such a set"
        )
    known = _Places(names)
    return [
        Selection(f"{benchmark.name}/{path.stem}", benchmark.images, _choices(path, known), path.stem)
        for path in files
    ]


def kinds(folder: Path) -> list[str]:
    """The kinds that the selections of a folder have, by its files."""
    beside = {path.stem for path in (folder / "compositional").glob("*.json")}
    own = {kind for kind in SUGAR_CREPE if (folder / f"{kind}.json").is_file()}
    return sorted(beside | own | {kind for kind, file in _ARO.items() if (folder / file).is_file()})


def is_selection_set(folder: Path) -> bool:
    """Whether a folder holds SugarCrepe, Winoground or ARO."""
    return any(known(folder) for known, _ in _RELEASES)


def open_selection_set(folder: Path, name: str) -> list[Selection]:
    """Opens every kind of SugarCrepe, Winoground or ARO.

    Raises:
        DataError: A file is damaged, or an image that it names does not exist.
    """
    return next(opened for known, opened in _RELEASES if known(folder))(folder, name)


def _is_sugar_crepe(folder: Path) -> bool:
    return any((folder / f"{kind}.json").is_file() for kind in SUGAR_CREPE)


def _sugar_crepe(folder: Path, name: str) -> list[Selection]:
    files = [path for kind in SUGAR_CREPE if (path := folder / f"{kind}.json").is_file()]
    questions = {path: list(_questions(path)) for path in files}
    wanted = sorted({file for rows in questions.values() for file, *_ in rows})
    beside = sorted(path for path in folder.parent.glob("*/val2017") if path.is_dir())
    images = _files([folder / "val2017", folder.parent / "val2017", *beside], wanted, files[0])
    known = _Places(images.names)
    return [
        Selection(f"{name}/{path.stem}", images, _paired(rows, known), path.stem)
        for path, rows in questions.items()
    ]


def _is_winoground(folder: Path) -> bool:
    return (folder / "examples.jsonl").is_file() or (folder / "data" / "examples.jsonl").is_file()


def _winoground(folder: Path, name: str) -> list[Selection]:
    inner = folder if (folder / "examples.jsonl").is_file() else folder / "data"
    path = inner / "examples.jsonl"
    files: list[str] = []
    choices = []
    for number, line in enumerate(read_lines(path, "one JSON object a line"), 1):
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: it must be a JSON object ({error})") from error
        files += [relative_name(field(row, key, str, place), place) for key in ("image_0", "image_1")]
        texts = tuple(_caption(row, key, place) for key in ("caption_0", "caption_1"))
        choices.append(Choice((len(files) - 2, len(files) - 1), texts))
    images = _files([inner / "images"], [_with_suffix(inner / "images", file) for file in files], path)
    return [Selection(name, images, tuple(choices))]


def _with_suffix(folder: Path, file: str) -> str:
    """Winoground's file names have no suffix in its list: the one of the image that is there."""
    if file.lower().endswith(tuple(f".{end}" for end in IMAGE_EXTENSIONS)):
        return file
    return next((f"{file}.{end}" for end in IMAGE_EXTENSIONS if (folder / f"{file}.{end}").is_file()), file)


def _is_aro(folder: Path) -> bool:
    return any((folder / file).is_file() for file in _ARO.values())


def _aro(folder: Path, name: str) -> list[Selection]:
    return [
        _aro_kind(folder, name, kind, folder / file)
        for kind, file in _ARO.items()
        if (folder / file).is_file()
    ]


def _aro_kind(folder: Path, name: str, kind: str, path: Path) -> Selection:
    boxes: dict[tuple[str, int, int, int, int], int] = {}
    choices = []
    for place, row in _entries(path):
        file = relative_name(field(row, "image_path", str, place), place)
        left, top, width, height = (field(row, f"bbox_{end}", int, place) for end in "xywh")
        if not (0 < width <= _SIDE and 0 < height <= _SIDE and abs(left) <= _SIDE and abs(top) <= _SIDE):
            raise DataError(
                f"{place}: bbox_w and bbox_h must be in [1, {_SIDE}] pixels, bbox_x and bbox_y within "
                f"+-{_SIDE}, got {width} x {height} at ({left}, {top})"
            )
        number = boxes.setdefault((file, left, top, left + width, top + height), len(boxes))
        texts = (_caption(row, "true_caption", place), _caption(row, "false_caption", place))
        choices.append(Choice((number,), texts, _aro_group(row, kind, place)))
    files = list(dict.fromkeys(file for file, *_ in boxes))
    whole = _files([folder / "images", folder / "vg_images"], files, path)
    number_of = {file: number for number, file in enumerate(files)}
    source = np.array([number_of[file] for file, *_ in boxes], np.int64)
    table = np.array([box for _, *box in boxes], np.int64)
    return Selection(f"{name}/{kind}", CroppedImages(whole, source, table), _counted(choices, kind), kind)


def _aro_group(row: Any, kind: str, place: str) -> str:
    """The relation of a question, or its two attributes in their order; "" where the file has none."""
    if kind == "relation":
        return str(field(row, "relation_name", str, place)) if "relation_name" in row else ""
    if "attributes" not in row:
        return ""
    found = field(row, "attributes", list, place)
    if len(found) != 2 or not all(isinstance(each, str) for each in found):
        raise DataError(f"{place}: 'attributes' must be two strings, got {found!r}")
    return "_".join(found)


def _counted(choices: Sequence[Choice], kind: str) -> tuple[Choice, ...]:
    """The questions, those without their group that ARO's macro accuracy leaves out."""
    sizes = Counter(choice.group for choice in choices)
    left = SYMMETRIC if kind == "relation" else {group for group in sizes if sizes[group] < _LEAST}
    return tuple(replace(choice, group="") if choice.group in left else choice for choice in choices)


_Release = tuple[Callable[[Path], bool], Callable[[Path, str], list[Selection]]]
_RELEASES: tuple[_Release, ...] = (
    (_is_sugar_crepe, _sugar_crepe),
    (_is_winoground, _winoground),
    (_is_aro, _aro),
)


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """The entries of a JSON list, or of an object of numbered entries, with their place for messages."""
    content = read_json(path, "questions: a list or an object of entries")
    if not isinstance(content, dict | list) or not content:
        raise DataError(f"{path}: it must hold a list or an object of entries, got none")
    for key, row in content.items() if isinstance(content, dict) else enumerate(content):
        yield f"{path}, entry {key!r}", row


def _questions(path: Path) -> Iterator[_Question]:
    for place, row in _entries(path):
        file = relative_name(field(row, "filename", str, place), place)
        yield file, _caption(row, "caption", place), _caption(row, "negative_caption", place), place


def _choices(path: Path, known: "_Places") -> tuple[Choice, ...]:
    return _paired(list(_questions(path)), known)


def _paired(questions: Sequence[_Question], known: "_Places") -> tuple[Choice, ...]:
    return tuple(Choice((known.index(file, place),), (true, false)) for file, true, false, place in questions)


def _caption(row: Any, key: str, place: str) -> str:
    text = captions.clean(field(row, key, str, place))
    if not text:
        raise DataError(f"{place}: {key!r} must not be empty")
    return text


def _files(folders: Sequence[Path], names: Sequence[str], source: Path) -> FileImages:
    """Images of these names in the first folder that has the first of them.

    Raises:
        DataError: None has it, or another image is missing there.
    """
    folder = next((path for path in folders if (path / names[0]).is_file()), None)
    if folder is None:
        looked = ", ".join(map(str, folders))
        raise DataError(f"{source} names {names[0]!r}, which is in none of {looked}: put the images there")
    gone = next((name for name in names if not (folder / name).is_file()), None)
    if gone is not None:
        raise DataError(f"{source} names {gone!r}, which is not in {folder}: copy the missing images")
    return FileImages(folder, Strings.of(names))


class _Places:
    """Numbers of images by file name: the whole name, or its last part where only one image has it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._whole = {name: number for number, name in enumerate(names)}
        self._last: dict[str, int] = {}
        for name, number in self._whole.items():
            last = name.rsplit("/", 1)[-1]
            self._last[last] = -1 if last in self._last else number

    def index(self, file: str, place: str) -> int:
        """Number of an image."""
        found = self._whole.get(file, self._last.get(file))
        if found is None or found < 0:
            what = "several images" if found is not None else "no image"
            raise DataError(f"{place}: its file name must be that of one image, {file!r} is that of {what}")
        return found
