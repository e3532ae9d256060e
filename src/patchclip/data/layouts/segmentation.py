"""Segmentation sets in the folders that their releases, mmsegmentation and detectron2 use, and plain ones.

    VOC2012/JPEGImages, SegmentationClass, ImageSets/Segmentation/val.txt           voc21, voc20
    VOC2010/JPEGImages, SegmentationClassContext, ImageSets/SegmentationContext     context60, context59
    NAME/images/val2017, annotations/val2017/*_labelTrainIds.png                    coco_stuff
    NAME/images/val2017, annotations/val2017/*_instanceTrainIds.png                 coco_object
    NAME/val2017, stuffthingmaps/val2017/*.png (182 ids; also in annotations)       coco_stuff, coco_object
    NAME/leftImg8bit/val/CITY, gtFine/val/CITY/*_gtFine_labelTrainIds.png           cityscapes
    ADE.../images/validation, annotations/validation                                ade20k
    NAME/images, masks, classes.txt [, segmentation.json]                           NAME

Also annotations_detectron2 (VOC, pc59, COCO-Stuff, ADE), stuffthingmaps_detectron2, *_gtFine_labelIds.png.

Source: Everingham et al., IJCV 2010 (VOC); Mottaghi et al., CVPR 2014 (Context); Caesar et al., COCO-Stuff,
    CVPR 2018, arXiv:1612.03716; Xu et al., GroupViT, CVPR 2022, arXiv:2202.11094 (COCO-Object: stuff and
    pixels without a label are background); Cordts et al., CVPR 2016, arXiv:1604.01685; Zhou et al., CVPR
    2017, arXiv:1608.05442 (ADE20K); mmsegmentation 1.2, `mmseg/datasets`; CAT-Seg, `datasets/` (detectron2).
Differs: a mask without an image, an image without a mask, and a value without a meaning are errors.
"""

import os
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from patchclip.data._strings import Strings
from patchclip.data.layouts.folders import SUFFIXES, image_files
from patchclip.data.layouts.segment_classes import class_list, read_class_list, read_options
from patchclip.data.layouts.segment_masks import UNSCORED, Codes, FileMasks
from patchclip.data.layouts.stored_images import FileImages
from patchclip.data.layouts.text_files import read_text, relative_name
from patchclip.data.sets import Segmented
from patchclip.errors import DataError
from patchclip.registry import closest

_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)  # COCO-Stuff's numbers that no picture has
_STUFF = [value for value in range(182) if value not in _UNUSED]
_CITY = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_RAW_STUFF = {255: UNSCORED} | {value: label for label, value in enumerate(_STUFF)}
_RAW_OBJECT = {255: 0} | {value: label + 1 if label < 80 else 0 for label, value in enumerate(_STUFF)}
_RAW_CITY = dict.fromkeys(range(34), UNSCORED) | {value: label for label, value in enumerate(_CITY)}


@dataclass(frozen=True)
class _Known:
    """Where a set lies; {part}, {year} and {word} stand for a split, as val, val2017 and validation.

    Args:
        name: Of the set, its class list and its protocol.
        images: Folder and ending of its images.
        masks: The same of its masks.
        codes: The number of class 0 in masks that count on from it, or the class of every number.
        listed: File with a name a line; "" where all masks in the folder belong to the set.
        more: The folder of images has others, too.
        named: What the name of the folder must begin with.
    """

    name: str
    images: str
    masks: str
    codes: int | Mapping[int, int] = 0
    listed: str = ""
    more: bool = False
    named: str = ""

    def is_in(self, folder: Path) -> bool:
        """Whether a folder holds the set's validation split."""
        places = [self.place(folder, each, "val") for each in (self.images, self.masks)]
        if not all(os.path.isdir(place) for place, _ in places):
            return False
        if self.named and not re.match(self.named, folder.absolute().name.lower()):
            return False
        if self.listed:
            return os.path.isfile(self.list_of(folder, "val"))
        return bool(self.masks_in(*places[1]))

    def masks_in(self, folder: Path, ending: str) -> set[str]:
        """Names of its masks without their ending; raw ones may lie among others, made of them."""
        stems = _stems(folder, ending)
        return stems if isinstance(self.codes, int) else {each for each in stems if "TrainIds" not in each}

    def place(self, folder: Path, files: str, split: str) -> tuple[Path, str]:
        """The folder of files of a split, and what their names end in."""
        year, word = ("train2017", "training") if split == "train" else ("val2017", "validation")
        inner, _, ending = files.format(part=split, year=year, word=word).partition("/*")
        return folder / inner, ending

    def list_of(self, folder: Path, split: str) -> Path:
        """The file of names of a split."""
        return folder / self.listed.format(part=split)


_VOC, _CONTEXT = "ImageSets/Segmentation/{part}.txt", "ImageSets/SegmentationContext/{part}.txt"
_NOT_OLDER = r"(?!voc20(0\d|1[01])$)"
_JPEG, _CITIES, _ADE = "JPEGImages/*.jpg", "leftImg8bit/{part}/*_leftImg8bit.png", "images/{word}/*.jpg"


def _coco(name: str, masks: str, codes: int | Mapping[int, int] = 0) -> list[_Known]:
    """A set over COCO's images, in either place."""
    return [_Known(name, images, masks, codes) for images in ("images/{year}/*.jpg", "{year}/*.jpg")]


_KNOWN = (
    _Known("voc21", _JPEG, "SegmentationClass/*.png", listed=_VOC, named=_NOT_OLDER),
    _Known("voc20", _JPEG, "SegmentationClass/*.png", 1, _VOC, named=_NOT_OLDER),
    _Known("voc20", _JPEG, "annotations_detectron2/{part}/*.png", more=True, named=_NOT_OLDER),
    _Known("context60", _JPEG, "SegmentationClassContext/*.png", listed=_CONTEXT),
    _Known("context59", _JPEG, "SegmentationClassContext/*.png", 1, _CONTEXT),
    _Known("context59", _JPEG, "annotations_detectron2/pc59_{part}/*.png", more=True),
    *_coco("coco_object", "annotations/{year}/*_instanceTrainIds.png"),
    *_coco("coco_object", "annotations/{year}/*.png", _RAW_OBJECT),
    *_coco("coco_object", "stuffthingmaps/{year}/*.png", _RAW_OBJECT),
    *_coco("coco_stuff", "annotations/{year}/*_labelTrainIds.png"),
    *_coco("coco_stuff", "annotations/{year}/*.png", _RAW_STUFF),
    *_coco("coco_stuff", "stuffthingmaps/{year}/*.png", _RAW_STUFF),
    *_coco("coco_stuff", "annotations_detectron2/{year}/*.png"),
    *_coco("coco_stuff", "stuffthingmaps_detectron2/{year}/*.png"),
    _Known("cityscapes", _CITIES, "gtFine/{part}/*_gtFine_labelTrainIds.png"),
    _Known("cityscapes", _CITIES, "gtFine/{part}/*_gtFine_labelIds.png", _RAW_CITY),
    _Known("ade20k", _ADE, "annotations/{word}/*.png", 1, named="ade"),
    _Known("ade20k", _ADE, "annotations_detectron2/{word}/*.png", named="ade"),
)
_PARTS = {each.partition("/")[0] for known in _KNOWN for each in (known.images, known.masks)} | {"masks"}
_PLAIN = {"test": ("test", "val", "validation"), "val": ("val", "validation"), "train": ("train", "training")}


def segmented_sets(base: Path, folders: Iterable[Path]) -> dict[str, tuple[Path, str]]:
    """The segmentation sets in folders, by name.

    Args:
        base: The root, whose folder names tell sets of one name apart.
        folders: The root and those in it that may hold a set.

    Returns:
        Folder, and name of the set in it, of every set; a plain set is named by its folder, and sets of one
        name in several folders as FOLDER/NAME.
    """
    found = [(folder, name) for folder in folders for name in _names_in(folder)]
    times = Counter(name for _, name in found if name)
    sets = {}
    for folder, name in sorted(found):
        inner = folder.relative_to(base).as_posix() if folder != base else base.absolute().name
        known = name if times[name] == 1 else f"{inner}/{name}"
        sets[known if name else inner] = (folder, name)
    return sets


def is_part_of_segmented(folder: Path) -> bool:
    """Whether a folder holds a segmentation set, or is the folder of images or masks of one, or a split's."""
    above = [folder.parent] * (folder.name in _PARTS)
    above += [folder.parent.parent] * (folder.parent.name in _PARTS)
    return any(_names_in(each) for each in (folder, *above))


def open_segmented(folder: Path, inner: str, name: str, split: str = "test") -> Segmented:
    """Opens one set: all its files are found, none is read.

    Args:
        folder: That holds it.
        inner: Name of the set in it, as `segmented_sets` gives it.
        name: What the set is to be called.
        split: "test" and "val" are the validation split, "train" the training split.

    Raises:
        DataError: An image or a mask is missing, or a file that says what they mean is damaged.
    """
    if split not in _PLAIN:
        raise DataError(f"{name} has no split {split!r}: {closest(split, _PLAIN)}")
    if not inner:
        return _plain(folder, name, split)
    known = next(each for each in _KNOWN if each.name == inner and each.is_in(folder))
    return _known(known, folder, name, "train" if split == "train" else "val")


def _names_in(folder: Path) -> list[str]:
    """Names of the known sets in a folder; "" is a plain one."""
    if _is_plain(folder):
        return [""]
    return list(dict.fromkeys(known.name for known in _KNOWN if known.is_in(folder)))


def _known(known: _Known, folder: Path, name: str, split: str) -> Segmented:
    images, ending = known.place(folder, known.images, split)
    masks, mask_ending = known.place(folder, known.masks, split)
    of_images, of_masks = _stems(images, ending), known.masks_in(masks, mask_ending)
    if known.listed:
        stems, source = _listed(known.list_of(folder, split))
    else:
        stems, source = sorted(of_masks if known.more else of_masks | of_images), str(folder)
    if not stems:
        raise DataError(f"{masks} must hold masks (*{mask_ending}): the split is empty")
    _check(stems, of_images, images, ending, source)
    _check(stems, of_masks, masks, mask_ending, source)
    classes = class_list(known.name)
    if isinstance(known.codes, int):
        codes = Codes.numbered(len(classes.classnames), known.codes)
    else:
        codes = Codes.of(known.codes)
    pictures = FileImages(images, Strings.of(stem + ending for stem in stems))
    files = FileMasks(pictures, masks, Strings.of(stem + mask_ending for stem in stems), codes)
    return Segmented(
        *(name, pictures, files, classes.classnames, classes.names, classes.background),
        protocol=known.name,
    )


def _stems(folder: Path, ending: str) -> set[str]:
    """Names of files in a folder and below that end so, without that."""
    return {file.removesuffix(ending) for file in image_files(folder) if file.endswith(ending)}


def _is_plain(folder: Path) -> bool:
    return os.path.isfile(folder / "classes.txt") and all(
        os.path.isdir(folder / each) for each in ("images", "masks")
    )


def _plain(folder: Path, name: str, split: str) -> Segmented:
    """A set in images, masks and classes.txt."""
    parts = [part for part in dict.fromkeys(sum(_PLAIN.values(), ())) if (folder / "masks" / part).is_dir()]
    part = next((part for part in _PLAIN[split] if part in parts), "")
    if not part and (parts or split == "train"):
        raise DataError(f"{name} has no split {split!r}: {folder} has {', '.join(parts) or 'one split'}")
    images, masks = folder / "images" / part, folder / "masks" / part
    files: dict[str, str] = {}
    for file in image_files(images):
        other = files.setdefault(os.path.splitext(file)[0], file)
        if other != file:
            raise DataError(f"{images}: {other} and {file} have one mask: rename one, with a mask of its own")
    of_masks = _stems(masks, ".png")
    stems = sorted({*files, *of_masks})
    if not stems:
        raise DataError(
            f"{images} must hold images ({', '.join(SUFFIXES)}), {masks} their masks: both are empty"
        )
    _check(stems, of_masks, masks, ".png", str(folder))
    _check(stems, files, images, ".*", str(folder))
    pictures = FileImages(images, Strings.of(files[stem] for stem in stems))
    classes = read_class_list(folder / "classes.txt")
    codes, background, protocol = read_options(folder / "segmentation.json", classes)
    found = FileMasks(pictures, masks, Strings.of(f"{stem}.png" for stem in stems), codes)
    return Segmented(name, pictures, found, classes.classnames, classes.names, background, protocol)


def _listed(path: Path) -> tuple[list[str], str]:
    """The names in a list, and the list for messages."""
    stems: dict[str, int] = {}
    for number, line in enumerate(read_text(path, "a name a line").splitlines(), 1):
        if stem := line.strip():
            place = f"{path}, line {number}"
            if stem in stems:
                raise DataError(
                    f"{place}: each image must be listed once, got {stem!r} as in line {stems[stem]}"
                )
            stems[relative_name(stem, place)] = number
    return list(stems), str(path)


def _check(stems: Iterable[str], there: Container[str], folder: Path, ending: str, source: str) -> None:
    """Raises DataError unless a folder has a file of every name."""
    gone = [stem for stem in stems if stem not in there]
    if gone:
        more = f" and {len(gone) - 1} more are" if len(gone) > 1 else " is"
        raise DataError(
            f"{source}: {folder / gone[0]}{ending}{more} missing: every image needs a mask, and every mask "
            "an image; copy what is missing"
        )
