"""What a geometry report looks at: a set by name, or pairs."""

import csv
from pathlib import Path

import pytest

from patchclip.errors import ConfigError, DataError
from patchclip.report.geometry.source import open_captioned
from tests.report._runs import picture
from tests.report.geometry._tiny import CAPTIONS, write


def write_pairs(folder: Path, count: int = 9) -> Path:
    with (folder / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for i in range(count):
            picture(i % 6).save(folder / f"{i}.png")
            table.writerow([f"{i}.png", f"caption {i}"])
    return folder / "pairs.csv"


def test_a_set_is_read_with_the_first_caption_of_each_image(tmp_path: Path) -> None:
    found = open_captioned("small", str(write(tmp_path)), 100, 0)
    assert found.captions == tuple(CAPTIONS)
    assert found.rows == tuple(range(9))
    assert (found.name, found.kept) == ("small", True)


def test_a_sample_is_drawn_by_its_seed(tmp_path: Path) -> None:
    root = str(write(tmp_path))
    first, again, other = (open_captioned("small", root, 8, seed) for seed in (0, 0, 3))
    assert first.rows == again.rows == tuple(sorted(first.rows))
    assert first.captions == tuple(CAPTIONS[row] for row in first.rows)
    assert other.rows != first.rows
    assert len(first.rows) == 8


def test_pairs_are_read_as_training_reads_them(tmp_path: Path) -> None:
    file = write_pairs(tmp_path)
    found = open_captioned(str(file), "samples", 100, 0)
    assert found.captions == tuple(f"caption {i}" for i in range(9))
    assert not found.kept
    assert found.images[3].mode == "RGB"
    assert found.images[3].size == (40, 32)
    assert len(found.images) == 9
    (tmp_path / "4.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"4\.png"):
        found.images[4]


def test_what_is_no_captioned_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no set under 'samples'.*and not image-text pairs either"):
        open_captioned("nothing_here", "samples", 100, 0)
    with pytest.raises(DataError, match="zs_furniture under 'samples' has no captions"):
        open_captioned("zs_furniture", "samples", 100, 0)
    with pytest.raises(DataError, match="data-root='nowhere' is no folder"):
        open_captioned("small", "nowhere", 100, 0)
    with pytest.raises(ConfigError, match="count=7 must be at least 8"):
        open_captioned("retrieval_mixed", "samples", 7, 0)
    with pytest.raises(DataError, match="has 5 captioned images: a report needs at least 8"):
        open_captioned(str(write_pairs(tmp_path, 5)), "samples", 100, 0)
