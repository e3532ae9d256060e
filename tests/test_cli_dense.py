"""`patchclip segment` and `point`: what they write and print, and what wrong input is answered with."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip import cli
from patchclip._cli_dense import read_labels, run_segment
from patchclip.dense.rle import decode
from patchclip.errors import ConfigError, DataError, TowerError
from patchclip.models.towers import ClipEncoder
from tests.models import _tiny

BOTH = ["--method", "raw"]
SEGMENT = [*BOTH, "--labels", "cat, dog|puppy, grass", "--background", "none"]


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ClipEncoder(_tiny.build())
    encoder.model.eval()
    monkeypatch.setattr("patchclip.dense.segment.load", lambda name, **options: encoder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures of noise in a folder, one of them turned by its orientation tag."""
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    Image.fromarray(noise[:, :24]).save(folder / "b.png", exif=exif)
    return folder


def test_a_folder_gives_files_for_each_and_two_for_all(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert cli.main(["segment", str(photos), "--output", str(out), *SEGMENT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["a", "b", "done:"]
    assert "%" in lines[0]
    kinds = ("overlay", "labels", "heat_cat", "heat_dog", "heat_grass")
    names = {f"{name}_{kind}.png" for name in "ab" for kind in kinds}
    assert {file.name for file in out.iterdir()} == names | {"annotations.json", "areas.csv"}
    coco = json.loads((out / "annotations.json").read_text("utf-8"))
    assert [(image["id"], image["width"], image["height"]) for image in coco["images"]] == [
        (1, 56, 40),
        (2, 40, 24),
    ]
    assert [each["name"] for each in coco["categories"]] == ["cat", "dog", "grass"]
    assert [each["id"] for each in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))
    for i, name in enumerate("ab"):
        with Image.open(out / f"{name}_labels.png") as picture:
            labels = np.asarray(picture)
        for each in coco["annotations"]:
            if each["image_id"] == i + 1:
                assert np.array_equal(decode(each["segmentation"]), labels == each["category_id"])
    rows = list(csv.DictReader((out / "areas.csv").read_text("utf-8").splitlines()))
    assert sum(int(row["pixels"]) for row in rows if row["image"] == "b") == 40 * 24
    assert sum(float(row["share"]) for row in rows if row["image"] == "a") == pytest.approx(1, abs=1e-5)


def test_as_json_it_is_one_object(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", str(photos / "a.png"), "--output", str(tmp_path / "out"), "--heats", "1", "--json"]
    assert cli.main([*words, *SEGMENT]) == 0
    found = json.loads(capsys.readouterr().out)
    [image] = found["images"]
    assert (image["name"], image["width"], image["height"]) == ("a", 56, 40)
    assert sum(image["areas"].values()) + image["unlabelled"] == 56 * 40
    assert [Path(file).name[:7] for file in image["written"]] == ["a_overl", "a_label", "a_heat_"]
    assert found["bad"] == []
    assert Path(found["annotations"]).is_file()


def test_bad_images_are_counted_and_the_rest_is_done(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "ab.png").write_bytes((photos / "a.png").read_bytes()[:60])
    (photos / "0.jpg").touch()
    words = ["segment", str(photos), str(photos / "none.png"), "--output", str(tmp_path / "out"), *SEGMENT]
    assert cli.main(words) == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["a", "b", *["skipped:"] * 3, "done:"]
    assert "0.jpg cannot be used: the image file is empty" in lines[2]
    assert "none.png cannot be read" in lines[4]
    assert (tmp_path / "out" / "b_overlay.png").is_file()
    assert cli.main([*words, "--json"]) == 3
    assert len(json.loads(capsys.readouterr().out)["bad"]) == 3


def test_without_a_usable_image_it_is_an_error(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [photos / "x.png", photos / "y.png"]
    for path in broken:
        path.write_text("no picture")
    out = ["--output", str(tmp_path / "out"), *SEGMENT]
    assert cli.main(["segment", str(broken[0]), *out]) == 3
    assert "error: " + str(broken[0]) in capsys.readouterr().err
    assert cli.main(["segment", *map(str, broken), *out]) == 3
    assert "no image can be used; the first: " in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_two_images_of_one_name_do_not_overwrite_each_other(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    Image.new("RGB", (9, 7), "red").save(tmp_path / "more" / "a.png")
    Image.new("RGB", (11, 5), "red").save(tmp_path / "more" / "A.jpg")
    out = tmp_path / "out"
    words = ["segment", str(photos / "a.png"), str(tmp_path / "more"), str(photos), "--output", str(out)]
    assert cli.main([*words, *SEGMENT, "--heats", "0"]) == 0
    names = ["a", "A-2", "a-3", "b"]
    assert sorted(file.name for file in out.glob("*_labels.png")) == sorted(
        f"{name}_labels.png" for name in names
    )
    sizes = []
    for name in names:
        with Image.open(out / f"{name}_labels.png") as picture:
            sizes.append(picture.size)
    assert sizes == [(56, 40), (11, 5), (9, 7), (40, 24)], "a.png, given twice, is done once"


def test_results_replace_those_of_before_but_no_image(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(photos / "a.png")
    assert cli.main(["segment", image, "--output", str(photos), *SEGMENT]) == 0
    before = (photos / "a_overlay.png").read_bytes()
    assert cli.main(["segment", image, "--output", str(photos), *SEGMENT]) == 0
    assert (photos / "a_overlay.png").read_bytes() == before
    assert not list(photos.glob(".*"))
    capsys.readouterr()
    assert cli.main(["segment", str(photos), "--output", str(photos), *SEGMENT]) == 2
    assert "is a folder of images: choose another" in capsys.readouterr().err
    words = ["segment", image, str(photos / "a_labels.png"), "--output", str(photos), *SEGMENT]
    assert cli.main(words) == 2
    assert "may replace the image a_labels.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--labels", "cat, , dog"], 2, "--labels: '' holds an empty name"),
        (["--labels", "cat, cat"], 2, "are both called 'cat'"),
        (["--labels", "x" * 300], 2, "at most 200 are read"),
        (["--labels", "none.txt"], 3, "none.txt cannot be read"),
        (["--background", "2"], 2, "must be in (0, 1): pixels whose best"),
        (["--method", "nothing"], 2, "there is no 'nothing' among the dense methods"),
        (["--step", "3"], 2, "step=3 must divide the patch"),
        (["--heats", "-1"], 2, "heats=-1 must be at least 0"),
        (["--longest", "0"], 2, "longest=0 must be at least 1"),
        (["--font", "none.ttf"], 2, "font='none.ttf' cannot be read"),
    ],
)
def test_wrong_settings_are_named(
    photos: Path, tmp_path: Path, words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output", str(tmp_path / "out")]
    assert cli.main(["segment", str(photos / "a.png"), *out, *SEGMENT, *words]) == code
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.out == ""


def test_labels_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffcat, kitten\n\n  dog \nthing with | bar\n", encoding="utf-8")
    assert read_labels(str(path)) == [("cat", "kitten"), ("dog",), ("thing with | bar",)]
    assert read_labels("a|b , c") == [("a", "b"), ("c",)]
    path.write_text("cat\ndog,,hound\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"labels\.txt:2: 'dog,,hound' holds an empty name"):
        read_labels(str(path))
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds 0 labels"):
        read_labels(str(path))
    path.write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_labels(str(path))
    with pytest.raises(ConfigError, match="holds 65536 labels"):
        read_labels(",".join(map(str, range(65536))))


def test_point_prints_and_draws(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "heat.png"
    words = ["point", str(photos / "a.png"), "the red mug", *BOTH]
    assert cli.main([*words, "--output", str(output)]) == 0
    point, box, score, last = capsys.readouterr().out.splitlines()
    assert (point.split()[0], box.split()[0], score.split()[0]) == ("point", "box", "score")
    assert last == f"done: {output}"
    with Image.open(output) as drawn:
        assert drawn.width > 512
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["phrase"] == "the red mug"
    assert (len(found["point"]), len(found["box"]), found["width"]) == (2, 4, 56)
    assert "output" not in found


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--threshold", "1"], 2, "threshold=1.0 must be in (0, 1)"),
        (["--output", "heat.bmp"], 2, "must end in .png"),
        (["--output", "no/where/heat.png"], 3, "create it first"),
    ],
)
def test_wrong_pointing_is_named(
    photos: Path, words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["point", str(photos / "a.png"), "mug", *BOTH, *words]) == code
    assert text in capsys.readouterr().err


def test_point_keeps_its_image(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(photos / "a.png")
    assert cli.main(["point", image, "mug", "--output", image, *BOTH]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert cli.main(["point", image, "  ", *BOTH]) == 2
    assert "is empty" in capsys.readouterr().err
    assert cli.main(["point", str(photos), "mug", *BOTH]) == 3
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, TowerError("no ViT")])
def test_what_ends_the_call_is_what_is_told(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] | Exception
) -> None:
    """A bad first image is not to blame for an interrupt or a model that cannot be read."""

    def each(self: object, pictures: object) -> None:
        raise error

    monkeypatch.setattr("patchclip.dense.segmenter.Segmenter.each", each)
    (photos / "0.jpg").touch()
    out = ["--output", str(tmp_path / "out")]
    words = cli.build_parser().parse_args(["segment", str(photos), *out, *SEGMENT])
    with pytest.raises(error if isinstance(error, type) else TowerError):
        run_segment(words)
    assert list((tmp_path / "out").iterdir()) == []


def test_results_beside_the_pictures_are_not_segmented(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["segment", str(photos / "a.png"), "--output", str(photos), *SEGMENT]) == 0
    capsys.readouterr()
    assert cli.main(["segment", str(photos), "--output", str(tmp_path / "out"), *SEGMENT]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["a", "b", "done:"]
