"""Names of evaluation sets as users ask for them: clip_benchmark's names and lists, and files of names."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from patchclip.data.layouts.selections import SUGAR_CREPE
from patchclip.data.layouts.text_files import read_text
from patchclip.errors import DataError

_VTAB = (
    *("caltech101", "cifar100", "clevr_count_all", "clevr_closest_object_distance", "diabetic_retinopathy"),
    *("dmlab", "dsprites_label_orientation", "dsprites_label_x_position", "dtd", "eurosat"),
    *("kitti_closest_vehicle_distance", "flowers", "pets", "pcam", "resisc45", "smallnorb_label_azimuth"),
    *("smallnorb_label_elevation", "svhn"),
)

LISTS: dict[str, tuple[str, ...]] = {
    "vtab": (*(f"vtab/{name}" for name in _VTAB), "sun397"),
    "vtab+": (
        *("imagenet1k", "imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-r", "objectnet", "fer2013"),
        *("voc2007", "voc2007_multilabel", "sun397", "cars", "fgvc_aircraft", "mnist", "stl10", "gtsrb"),
        *("country211", "renderedsst2", "vtab/cifar10", *(f"vtab/{name}" for name in _VTAB)),
    ),
    "retrieval": ("mscoco_captions", "flickr8k", "flickr30k"),
    "imagenet-robustness": ("imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-r", "objectnet"),
    "sugar-crepe": tuple(f"sugar_crepe/{kind}" for kind in SUGAR_CREPE),
    "cls17": (
        *("food101", "cifar10", "cifar100", "sun397", "cars", "voc2007", "fgvc_aircraft", "dtd", "pets"),
        *("caltech101", "flowers", "stl10", "eurosat", "resisc45", "gtsrb", "country211", "pcam"),
    ),
    "segmentation": (
        *("voc21", "context60", "coco_object", "voc20", "context59", "coco_stuff", "cityscapes", "ade20k"),
    ),
}
"""Lists of sets by name.

Source: LAION CLIP_benchmark 1.6, `datasets/builder.py`, dataset_collection; "cls17" is the zero-shot table of
    CLIP-PGS, arXiv:2503.17080 (its released `task-zero-shot-cls.txt`); "segmentation" is the eight sets of
    SCLIP, arXiv:2312.01597, of which the first three have a background.
"""

_SHOWN = 8
_ALIASES = (
    ("imagenet1k", "imagenet", "ilsvrc2012", "imagenetval"),
    ("imagenetv2", "imagenetv2matchedfrequency", "imagenetv2matchedfrequencyformatval"),
    ("imagenetsketch", "sketch"),
    ("mscococaptions", "mscoco", "coco", "cococaptions", "coco2014"),
    ("cars", "stanfordcars"),
    ("fgvcaircraft", "aircraft"),
    ("flowers", "flowers102", "oxfordflowers102"),
    ("pets", "oxfordpets", "oxfordiiitpet"),
    ("voc2007", "pascalvoc2007"),
    ("voc21", "pascalvoc21"),
    ("voc20", "pascalvoc20"),
    ("context60", "pascalcontext60", "pc60"),
    ("context59", "pascalcontext59", "pc59"),
    ("cocostuff", "cocostuff171", "cocostuff164k"),
    ("ade20k", "ade", "ade150", "ade20k150"),
)


def expand(asked: Iterable[str]) -> list[str]:
    """The names asked for, with lists and files of names in place of what they hold; each once.

    Args:
        asked: Names, keys of `LISTS` ("_" and "-" alike), or text files with one name a line ("#" begins a
            comment; a text file in it is looked for beside it).

    Raises:
        DataError: A text file cannot be read, names nothing, or names itself.
    """
    return list(dict.fromkeys(_expanded(asked, ())))


def _expanded(asked: Iterable[str], above: tuple[Path, ...]) -> Iterator[str]:
    """As `expand`, below text files of which each names the next."""
    for name in (each.strip() for each in asked):
        known = name.lower().replace("_", "-")
        if known in LISTS:
            yield from LISTS[known]
        elif name.endswith(".txt"):
            path = above[-1].parent / name if above else Path(name)
            rule = "one data set a line"
            lines = [line.split("#")[0].strip() for line in read_text(path, rule).splitlines()]
            if path.resolve() in [each.resolve() for each in above]:
                raise DataError(f"{above[-1]} must not name {name}, which names it: delete that line")
            if not any(lines):
                raise DataError(f"{path} must hold {rule}: it names none")
            yield from _expanded(lines, (*above, path))
        elif name:
            yield name


def match(asked: str, known: Sequence[str]) -> str | None:
    """The known name that is meant: the same letters and digits, whatever stands between them.

    "wds/" in front is left out on both sides, so that `wds/food101` is found as food101, wds_food101 or
    wds/food101; vtab/caltech101 is found as caltech101 where there is no vtab-caltech101, and the other way
    round; some common names of one set count as one (imagenet, imagenet1k).
    """
    if asked in known:
        return asked
    for wanted in _forms(asked):
        found = [name for name in known if _plain(name) == wanted]
        if found:
            prefixed = asked.startswith("wds")
            return min(found, key=lambda name: (name.startswith("wds") != prefixed, name))
    return None


def nearest(asked: str, known: Iterable[str]) -> str:
    """A hint of the name that may be meant: the most alike, else the first of those that there are."""
    options = sorted(known)
    near = difflib.get_close_matches(asked, options, n=1, cutoff=0.5)
    if near or not options:
        return f"did you mean {near[0]!r}?" if near else "it has no set"
    more = f" and {len(options) - _SHOWN} more" if len(options) > _SHOWN else ""
    return f"it has {', '.join(options[:_SHOWN])}{more}"


def _forms(asked: str) -> list[str]:
    """What to compare with, the nearest first."""
    plain = _plain(asked)
    forms = [plain]
    if re.match(r"(wds.)?vtab\W", asked.lower()):
        forms.append(plain.removeprefix("vtab"))
    else:
        forms.append(f"vtab{plain}")
    for form in list(forms):
        forms += [alias for aliases in _ALIASES if form in aliases for alias in aliases if alias != form]
    return forms


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", re.sub(r"^wds[/_-]", "", name.lower()))
