"""Class lists of segmentation sets: the names of each class, one class a line.

    aeroplane                  asked for by this name
    person | body              asked for by both; the first is the class
    boat = ship | vessel       the class, then the names that it is asked for by instead of its own
    # a comment

Those of the known sets ship with the package. Their names are the ones that the field asks for, since scores
depend on them, with quirks as "trafficlight" and 26 words for background; the classes are spelled out.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from patchclip.data.layouts.segment_masks import Codes
from patchclip.data.layouts.text_files import field, read_json, read_text
from patchclip.errors import DataError
from patchclip.registry import closest

_SHIPPED = Path(__file__).parent.parent / "segmentation_classes"
_OPTIONS = ("ignore_index", "reduce_zero", "background", "protocol")
_RULE = "one class a line, NAME | NAME or CLASS = NAME | NAME"


@dataclass(frozen=True)
class ClassList:
    """Classes of a set, in the order of its labels.

    Args:
        classnames: c names, all different.
        names: Of each class, what is asked for: at least one.
    """

    classnames: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]

    @property
    def background(self) -> int | None:
        """Index of the class "background", None where there is none."""
        plain = [name.lower() for name in self.classnames]
        return plain.index("background") if "background" in plain else None


@cache
def class_list(name: str) -> ClassList:
    """A list that ships with the package: one of `known_lists()`.

    Raises:
        DataError: There is none of this name.
    """
    if name not in known_lists():
        raise DataError(f"class list {name!r} does not exist: {closest(name, known_lists())}")
    return read_class_list(_SHIPPED / f"{name}.txt")


@cache
def known_lists() -> tuple[str, ...]:
    """Names of the lists that ship with the package, sorted."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.txt")))


def read_class_list(path: Path) -> ClassList:
    """Reads a list; line i without comments and empty lines is class i - 1.

    Raises:
        DataError: The file cannot be read, holds no class, an empty name, or a class twice.
    """
    classes: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(read_text(path, _RULE).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        head, equals, tail = text.partition(" = ")
        names = tuple(name.strip() for name in (tail if equals else text).split("|"))
        classname = head.strip() if equals else names[0]
        if not all((classname, *names)):
            raise DataError(f"{path}, line {number}: it must hold {_RULE}, got an empty name: {text!r}")
        if classname in classes:
            raise DataError(f"{path}, line {number}: each class must be listed once, got {classname!r} again")
        classes[classname] = names
    if not classes:
        raise DataError(f"{path} must hold {_RULE}: it is empty")
    return ClassList(tuple(classes), tuple(classes.values()))


def read_options(path: Path, classes: ClassList) -> tuple[Codes, int | None, str]:
    """What the masks of a plain set mean, its background, and its protocol.

    Args:
        path: Of {"ignore_index": 255, "reduce_zero": false, "background": "ground", "protocol": "voc21"}; the
            file and each key may be absent. Several values may be ignored, none (null) or a list.
        classes: Of the set.

    Raises:
        DataError: The file cannot be read, or an option is unknown or wrong.
    """
    given = read_json(path, "an object of options") if path.exists() else {}
    wrong = [key for key in given if key not in _OPTIONS] if isinstance(given, dict) else [str(given)]
    if wrong:
        raise DataError(
            f"{path}: it must be an object of options, {wrong[0]!r} is none: {closest(wrong[0], _OPTIONS)}"
        )
    shifted = given.get("reduce_zero", False)
    if not isinstance(shifted, bool):
        raise DataError(
            f"{path}: 'reduce_zero' must be true where 0 is not scored and 1 is the first class, "
            f"else false, got {shifted!r}"
        )
    first = int(shifted)
    count = len(classes.classnames)
    unscored = given.get("ignore_index", [] if count + first > 255 else 255)
    unscored = unscored if isinstance(unscored, list) else [] if unscored is None else [unscored]
    if any(type(value) is not int or value < 0 or 0 <= value - first < count for value in unscored):
        raise DataError(
            f"{path}: 'ignore_index' must be a number in the masks that is no class ({first} to "
            f"{first + count - 1} are), or a list of such, got {given['ignore_index']!r}"
        )
    background, asked = classes.background, given.get("background", "")
    if asked is None:
        background = None
    elif asked:
        if asked not in classes.classnames:
            raise DataError(f"{path}: 'background' must be a class in classes.txt or null, got {asked!r}")
        background = classes.classnames.index(asked)
    protocol = field({"protocol": ""} | given, "protocol", str, str(path))
    return Codes.numbered(count, first, unscored), background, protocol
