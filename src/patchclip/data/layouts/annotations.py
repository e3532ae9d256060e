"""Retrieval sets whose captions lie in one file beside a folder of images: COCO, Flickr8k, Flickr30k.

    {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}   COCO's captions_*.json
    {"images": [{"filename", "split", "sentences": [{"raw"}]}]}                   Karpathy's dataset_*.json
    [{"image", "caption": text or list of texts}]                                 coco_karpathy_test.json
    image,caption                                                                 flickr30k_test_karpathy.txt

The file lies in NAME or NAME/annotations; the images in NAME or a folder inside it.

Source: Chen et al., "Microsoft COCO Captions", arXiv:1504.00325; Karpathy & Fei-Fei, "Deep Visual-Semantic
    Alignments for Generating Image Descriptions", CVPR 2015, arXiv:1412.2306 (splits); LAION CLIP_benchmark
    1.6, `datasets/flickr.py`; torchvision 0.29, `datasets/coco.py` (images by ascending id).
Differs: a caption of a .txt that stands in double quotes loses them (clip_benchmark keeps them).
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patchclip.data import captions
from patchclip.data._strings import Strings
from patchclip.data.layouts.caption_lists import Captions
from patchclip.data.layouts.folders import SUFFIXES
from patchclip.data.layouts.stored_images import FileImages
from patchclip.data.layouts.text_files import field, read_json, read_text, relative_name
from patchclip.data.sets import Retrieval
from patchclip.errors import DataError

_FILE = re.compile(
    r"(?i)(.*caption.*|.*karpathy.*|dataset_(coco|flickr).*)\.json|(.*karpathy.*|captions)\.txt"
)
_OTHER_SPLITS = {"test": ("train",), "val": ("train", "test"), "train": ("val", "test")}
_ENDINGS = "|".join(suffix[1:] for suffix in SUFFIXES)
_LINE = re.compile(rf"(?i)(.+?\.(?:{_ENDINGS}))(?:#\d+)?[,\t|](.+)")

_Captioned = Iterator[tuple[str, list[str], str]]  # file, captions, place in the file


def is_annotated_set(folder: Path) -> bool:
    """Whether a folder has such a caption file."""
    return bool(_caption_files(folder))


def open_annotated_set(folder: Path, name: str, split: str) -> Retrieval:
    """Opens the captions of a split and finds their images.

    Raises:
        DataError: No file, or several, fit the split; the file is damaged; an image is missing.
    """
    path = _choose(_caption_files(folder), split, folder)
    files, texts = [], []
    for file, found, place in _read(path, split):
        cleaned = captions.cleaned(found)
        if not cleaned:
            raise DataError(f"{place}: the image {file!r} must have a caption, got none")
        files.append(relative_name(file, place))
        texts.append(cleaned)
    if not files:
        raise DataError(f"{path} must hold images with captions of the split {split!r}, got none")
    if len(set(files)) < len(files):
        (twice, times), *_ = Counter(files).most_common(1)
        raise DataError(f"{path} must name every image once, got {twice!r} {times} times")
    return Retrieval(name, _images(folder, files, path), Captions.of(texts))


def _caption_files(folder: Path) -> list[Path]:
    bases = [base for base in (folder, folder / "annotations") if base.is_dir()]
    return sorted(path for base in bases for path in base.iterdir() if _FILE.fullmatch(path.name))


def _choose(files: list[Path], split: str, folder: Path) -> Path:
    """The file whose name has the split; for "test" one of "val", or of no split, will do."""
    for word in (split, "val") if split == "test" else (split,):
        fitting = [path for path in files if word in path.name.lower()]
        if fitting:
            break
    else:
        others = _OTHER_SPLITS.get(split, ())
        fitting = [path for path in files if not any(word in path.name.lower() for word in others)]
    if len(fitting) != 1:
        names = ", ".join(path.name for path in fitting or files)
        many = "several" if fitting else "no"
        raise DataError(
            f"{folder} has {many} caption files for the split {split!r}: {names}; keep one, "
            "with the split in its name"
        )
    return fitting[0]


def _read(path: Path, split: str) -> _Captioned:
    if path.suffix.lower() == ".txt":
        return _from_lines(path)
    content = read_json(path, "images and captions")
    if isinstance(content, list):
        return _from_list(content, path)
    if isinstance(content, dict) and "annotations" in content:
        return _from_coco(content, path)
    return _from_karpathy(content, path, split)


def _from_lines(path: Path) -> _Captioned:
    found: dict[str, tuple[list[str], str]] = {}
    for number, line in enumerate(read_text(path, "a line image,caption for each caption").splitlines(), 1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            if not line.strip() or number == 1:
                continue
            raise DataError(f"{path}, line {number}: it must be IMAGE.jpg,CAPTION, got {line[:60]!r}")
        file, text = match.group(1).strip(), match.group(2).strip()
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1].replace('""', '"')
        found.setdefault(file, ([], f"{path}, line {number}"))[0].append(text)
    return ((file, texts, place) for file, (texts, place) in found.items())


def _from_coco(content: dict[str, Any], path: Path) -> _Captioned:
    texts: dict[int, list[str]] = {}
    places: dict[int, tuple[str, str]] = {}
    for number, row in enumerate(field(content, "images", list, str(path))):
        place = f"{path}, images[{number}]"
        places[field(row, "id", int, place)] = field(row, "file_name", str, place), place
    for number, row in enumerate(field(content, "annotations", list, str(path))):
        place = f"{path}, annotations[{number}]"
        image = field(row, "image_id", int, place)
        if image not in places:
            raise DataError(f"{place}: its image_id must be the id of an image, got {image}")
        texts.setdefault(image, []).append(field(row, "caption", str, place))
    return ((places[image][0], texts.get(image, []), places[image][1]) for image in sorted(places))


def _from_karpathy(content: Any, path: Path, split: str) -> _Captioned:
    for number, row in enumerate(field(content, "images", list, str(path))):
        place = f"{path}, images[{number}]"
        if field(row, "split", str, place) == split:
            sentences = field(row, "sentences", list, place)
            texts = [field(each, "raw", str, f"{place}.sentences[{i}]") for i, each in enumerate(sentences)]
            yield field(row, "filename", str, place), texts, place


def _from_list(content: list[Any], path: Path) -> _Captioned:
    for number, row in enumerate(content):
        place = f"{path}, entry {number}"
        file = field(row, "image", str, place)
        text = row.get("caption")
        texts = [text] if isinstance(text, str) else field(row, "caption", list, place)
        if not all(isinstance(each, str) for each in texts):
            raise DataError(f"{place}: 'caption' must be a text or a list of texts")
        yield file, texts, place


def _images(folder: Path, files: list[str], source: Path) -> FileImages:
    bases = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    bases += sorted(path for base in bases[1:] for path in base.iterdir() if path.is_dir())
    base = next((base for base in bases if (base / files[0]).is_file()), None)
    if base is None:
        raise DataError(
            f"{source} names the image {files[0]!r}, which is nowhere in {folder}: put the images there"
        )
    gone = next((file for file in files if not (base / file).is_file()), None)
    if gone is not None:
        raise DataError(f"{source} names the image {gone!r}, which is not in {base}: copy the missing images")
    return FileImages(base, Strings.of(files))
