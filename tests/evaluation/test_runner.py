import io
import json
import logging
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation._runner import evaluate

from ._fakes import TableEncoder, picture

NAMES = ("cat", "dog", "owl", "bee", "ant", "fox")


def write_tar(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    (folder / "nshards.txt").write_text("1\n")
    with tarfile.open(folder / "0.tar", "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A classification set whose third image is broken, and a retrieval set, six images each."""
    samples: dict[str, bytes] = {}
    for i in range(6):
        samples |= {f"{i}.png": b"\x89PNG broken" if i == 2 else png(i), f"{i}.cls": str(i).encode()}
    write_tar(tmp_path / "zs_pets" / "test", samples)
    (tmp_path / "zs_pets" / "classnames.txt").write_text("\n".join(NAMES))
    (tmp_path / "zs_pets" / "zeroshot_classification_templates.txt").write_text("a {c}\n")
    samples = {}
    for i in range(6):
        samples |= {f"{i}.png": png(i), f"{i}.txt": f"a {NAMES[i]}".encode()}
    write_tar(tmp_path / "retrieval_pets" / "test", samples)
    (tmp_path / "retrieval_pets" / "dataset_type.txt").write_text("retrieval")
    return tmp_path


@pytest.fixture
def encoder() -> TableEncoder:
    return TableEncoder(torch.eye(6), {f"a {name}": torch.eye(6)[i] for i, name in enumerate(NAMES)})


def test_every_set_under_the_root_is_scored_and_written(
    root: Path, encoder: TableEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, int, int]] = []
    output = tmp_path / "run" / "eval"
    with caplog.at_level(logging.WARNING):
        results = evaluate(
            encoder, root, batch_size=4, output=output, on_progress=lambda *step: seen.append(step)
        )
    assert [result.dataset for result in results] == ["retrieval_pets", "zs_pets"]
    assert results[0].metrics["image_retrieval_recall@1"] == 1.0
    assert results[1].metrics["acc1"] == 1.0
    assert (results[1].images, len(results[1].bad)) == (5, 1)
    assert "zs_pets: 1 images could not be read" in caplog.text
    assert seen[-2:] == [("zs_pets", 4, 6), ("zs_pets", 6, 6)]
    assert sorted(path.name for path in output.iterdir()) == ["retrieval_pets.json", "zs_pets.json"]


def test_the_file_follows_clip_benchmarks_schema(root: Path, encoder: TableEncoder, tmp_path: Path) -> None:
    result = evaluate(encoder, root, ["zs_pets"], output=tmp_path / "out")[0]
    written = json.loads((tmp_path / "out" / "zs_pets.json").read_text(encoding="utf-8"))
    assert written == result.to_json()
    schema = {key: written[key] for key in ("dataset", "model", "pretrained", "task", "language")}
    assert schema == {
        "dataset": "zs_pets",
        "model": "ViT-Table",
        "pretrained": "test",
        "task": "zeroshot_classification",
        "language": "en",
    }
    assert set(written["metrics"]) == {"acc1", "acc5", "mean_per_class_recall"}
    assert written["bad"] == 1
    assert written["bad_first"][0][0] == "zs_pets/2"
    assert written["seconds"] >= 0


@pytest.mark.parametrize("name", ["runs/demo", "hf-hub:org/model", "ViT-B-32"])
def test_a_path_or_plain_name_has_no_pretrained_tag(name: str, root: Path, encoder: TableEncoder) -> None:
    encoder.name = name
    written = evaluate(encoder, root, ["zs_pets"])[0].to_json()
    assert (written["model"], written["pretrained"]) == (name, "")


def test_an_empty_list_evaluates_nothing(root: Path, encoder: TableEncoder) -> None:
    assert evaluate(encoder, root, []) == []


def test_names_are_checked_before_anything_is_encoded(root: Path, encoder: TableEncoder) -> None:
    with pytest.raises(DataError, match=r"zs_pet'.*did you mean 'zs_pets'"):
        evaluate(encoder, root, ["retrieval_pets", "zs_pet"])
    assert encoder.image_batches == []


def test_a_missing_or_empty_root_is_an_error(encoder: TableEncoder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        evaluate(encoder, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        evaluate(encoder, tmp_path / "empty")


def test_batch_size_must_be_positive(root: Path, encoder: TableEncoder) -> None:
    with pytest.raises(ConfigError, match="batch_size=0 must be at least 1"):
        evaluate(encoder, root, batch_size=0)


def test_a_second_result_replaces_the_first_whole(root: Path, encoder: TableEncoder, tmp_path: Path) -> None:
    output = tmp_path / "out"
    evaluate(encoder, root, ["zs_pets"], output=output)
    encoder.texts = dict.fromkeys(encoder.texts, torch.ones(6))
    evaluate(encoder, root, ["zs_pets"], output=output)
    assert json.loads((output / "zs_pets.json").read_text(encoding="utf-8"))["metrics"]["acc1"] == 0.0
    assert len(list(output.iterdir())) == 1


def test_no_graph_is_recorded(root: Path, encoder: TableEncoder) -> None:
    """Embeddings are made in inference mode, even by an encoder that would record a graph."""
    modes: list[bool] = []
    plain = encoder.encode_image

    def watched(pixels: torch.Tensor) -> torch.Tensor:
        modes.append(torch.is_inference_mode_enabled())
        return plain(pixels)

    encoder.encode_image = watched
    evaluate(encoder, root, ["retrieval_pets"])
    assert modes == [True]


def test_a_broken_transform_is_not_taken_for_damaged_images(root: Path, encoder: TableEncoder) -> None:
    """Only reading may fail and be counted: an encoder's own mistake must not thin out a data set quietly."""
    plain = encoder.preprocess
    calls: list[int] = []

    def third_fails(image: Image.Image) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("a mistake of the transform")
        return plain(image)

    encoder.preprocess = third_fails
    with pytest.raises(ValueError, match="a mistake of the transform"):
        evaluate(encoder, root, ["retrieval_pets"])
