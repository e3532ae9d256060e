"""`patchclip masks`: what is drawn and printed, and what wrong input is answered with."""

import json
from pathlib import Path

import pytest
from PIL import Image

from patchclip import cli


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture of 64 x 64 pixels whose object, a square in the middle, is known."""
    picture, mask = Image.new("RGB", (64, 64), "#dddddd"), Image.new("L", (64, 64))
    picture.paste((200, 30, 30), (16, 16, 48, 48))
    mask.paste(1, (16, 16, 48, 48))
    picture.save(tmp_path / "thing.png")
    mask.save(tmp_path / "thing.mask.png")
    return tmp_path / "thing.png"


def test_it_draws_and_says_where(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = image.with_name("sheet.webp")
    words = ["masks", str(image), "--size", "64", "--strategies", "random,pgs", "--output", str(output)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.splitlines() == [f"done: {output}"]
    with Image.open(output) as drawn:
        assert drawn.format == "WEBP"


def test_compare_prints_a_table(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = image.with_name("sheet.png")
    words = [
        "masks",
        str(image),
        "--size",
        "64",
        "--patch",
        "8",
        "--strategies",
        "random,pgs:protect=0.4,resize",
    ]
    assert cli.main([*words, "--compare", "--output", str(output)]) == 0
    head, random, pgs, resize, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["foreground", "edges", "entropy", "overlap", "ms/image"]
    assert random.split()[0] == "random"
    assert random.split()[4] == "bit"
    assert pgs.startswith("pgs:protect=0.4 ")
    assert float(pgs.split()[2].rstrip("%")) > 75
    assert resize.split()[1:3] == ["-", "-"]
    assert last == f"done: {output}"


def test_as_json_it_is_one_object(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = image.with_name("sheet.png")
    words = ["masks", str(image), str(image), "--mask", str(image), str(image), "--size", "64", "--json"]
    assert cli.main([*words, "--strategies", "random,pgs", "--compare", "--output", str(output)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["output"] == str(output)
    assert found["images"] == ["thing", "thing"]
    assert [row["name"] for row in found["strategies"]] == ["random", "pgs"]
    assert found["overlap"][0][1] == found["overlap"][1][0]
    assert len(found["strategies"][0]["foreground_kept"]["images"]) == 2
    assert found["left_out"] == {}


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--ratio", "1.5"], 2, "ratio=1.5 must be in [0, 1)"),
        (["--strategies", "pqs"], 2, "did you mean 'pgs'"),
        (["--output", "sheet.bmp"], 2, "must end in .png"),
        (["--progress", "0.5"], 2, "needs a model"),
        (["--output", "no/where/sheet.png"], 3, "create it first"),
        (["--mask", "none.png"], 3, "none.png cannot be read"),
        (["--size", "65"], 2, "use size=64"),
    ],
)
def test_wrong_input_is_named(
    image: Path, words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = [] if "--output" in words else ["--output", str(image.with_name("sheet.png"))]
    assert cli.main(["masks", str(image), *output, *words]) == code
    out, err = capsys.readouterr()
    assert text in err
    assert out == ""
    assert not image.with_name("sheet.png").exists()


def test_a_folder_and_a_broken_file_are_named(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = image.with_name("torn.png")
    torn.write_bytes(image.read_bytes()[:60])
    output = ["--output", str(image.with_name("sheet.png"))]
    assert cli.main(["masks", str(image.parent), *output]) == 3
    assert "is a folder" in capsys.readouterr().err
    assert cli.main(["masks", str(image), str(torn), *output]) == 3
    assert "torn.png cannot be used" in capsys.readouterr().err
    assert cli.main(["masks", str(image), "--output", str(image)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
