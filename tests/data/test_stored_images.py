"""Images inside tars, in files, and cut out of others."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from patchclip.data._strings import Strings
from patchclip.data.layouts.stored_images import CroppedImages, FileImages, TarImages
from patchclip.errors import DataError
from tests.data._make import colour, encoded
from tests.data._make_sets import picture


def files(folder: Path, count: int = 2) -> FileImages:
    names = [f"{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        os.utime(picture(folder / name, number), ns=(5, 5))
    return FileImages(folder, Strings.of(names))


def test_slices_of_a_file(tmp_path: Path) -> None:
    parts = [encoded(0), encoded(1, "webp")]
    (tmp_path / "x.bin").write_bytes(b"abc" + b"".join(parts))
    offsets, sizes = np.array([3, 3 + len(parts[0])]), np.array([len(part) for part in parts])
    places = (np.zeros(2, np.int32), offsets, sizes, Strings.of(["a", "b"]))
    made = TarImages(tmp_path, ("x.bin",), *places)
    assert [made[i].getpixel((0, 0)) for i in (0, 1, -1)] == [colour(0), colour(1), colour(1)]
    moved = TarImages(tmp_path, ("x.bin",), places[0], offsets + 1, *places[2:])
    assert made.fingerprint != moved.fingerprint
    with pytest.raises(DataError, match=r"x.bin, a: the image cannot be decoded"):
        moved[0]


def test_the_fingerprint_of_files(tmp_path: Path) -> None:
    made = files(tmp_path / "s")
    assert FileImages(made.folder, made.names).fingerprint == made.fingerprint
    assert FileImages(made.folder, Strings.of(["1.png", "0.png"])).fingerprint != made.fingerprint
    assert files(tmp_path / "t").fingerprint != made.fingerprint
    os.utime(tmp_path / "s" / "1.png", ns=(5, 6))
    assert FileImages(made.folder, made.names).fingerprint != made.fingerprint
    assert len(made.fingerprint) == 64
    (tmp_path / "s" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1.png must stay where it was found"):
        FileImages.fingerprint.func(made)  # type: ignore[attr-defined]


def test_sets_of_equal_sizes_and_times_differ(tmp_path: Path) -> None:
    """Files without compression (PPM, BMP), unpacked with one time for all."""
    first, second = (files(tmp_path / root / "test") for root in ("a", "b"))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    linked = FileImages(tmp_path / "link" / "test", first.names)
    assert first.fingerprint != second.fingerprint
    assert linked.fingerprint == first.fingerprint, "one folder under two names"


def test_a_change_that_is_set_back_in_time_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = files(tmp_path)
    before = made.fingerprint
    stat = Path.stat

    def later(path: Path, **options: Any) -> Any:
        found = stat(path, **options)
        names = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_mode")
        told = {name: getattr(found, name) for name in names}
        return SimpleNamespace(**told | {"st_ctime_ns": found.st_ctime_ns + 1})

    monkeypatch.setattr(Path, "stat", later)
    assert FileImages(tmp_path, made.names).fingerprint != before


def test_some_of_a_tar_is_read_for_its_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems that tell no times: the head and the last image of each tar are looked at."""
    path = tmp_path / "0.tar"
    path.write_bytes(bytes(5000))
    places = (np.zeros(2, np.int32), np.array([512, 2000]), np.array([100, 2000]), Strings.of(["a", "b"]))
    stat = path.stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: stat)
    prints = set()
    for changed in (None, 0, 1023, 2976, 3999, 4000):
        body = bytearray(5000)
        if changed is not None:
            body[changed] = 1
        path.write_bytes(body)
        prints.add(TarImages(tmp_path, ("0.tar",), *places).fingerprint)
    assert len(prints) == 5, "the padding behind the last image is none of it"


def test_boxes(tmp_path: Path) -> None:
    whole = files(tmp_path)
    boxes = np.array([[0, 0, 4, 2], [6, 6, 10, 9]])
    made = CroppedImages(whole, np.array([1, 0]), boxes)
    assert [made[i].size for i in range(len(made))] == [(4, 2), (4, 3)]
    assert made[0].getpixel((0, 0)) == colour(1)
    assert [made[1].getpixel(place) for place in ((1, 1), (2, 2))] == [colour(0), (0, 0, 0)], "black outside"
    prints = {
        whole.fingerprint,
        made.fingerprint,
        CroppedImages(whole, np.array([1, 0]), boxes + 1).fingerprint,
    }
    assert len(prints) == 3
