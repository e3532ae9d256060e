import io
import json
import logging
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation._runner import evaluate, usable_sets
from patchclip.evaluation.embedder import Encoding
from patchclip.evaluation.result import Result
from patchclip.evaluation.results import Results

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


ZERO_SHOT = "classification,retrieval"


def run(encoder: Any, root: Path, names: list[Any] | None = None, **more: Any) -> Results:
    return evaluate(encoder, ZERO_SHOT, root, names, **more)


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
    encoding = Encoding(batch_size=4, on_progress=lambda *step: seen.append(step))
    with caplog.at_level(logging.WARNING):
        results = run(encoder, root, output=output, encoding=encoding)
    assert [(result.suite, result.dataset) for result in results] == [
        ("classification", "zs_pets"),
        ("retrieval", "retrieval_pets"),
    ]
    assert results[0].metrics["acc1"] == 1.0
    assert results[1].metrics["image_retrieval_recall@1"] == 1.0
    assert (results[0].images, len(results[0].bad)) == (5, 1)
    assert "zs_pets: 1 images could not be read" in caplog.text
    assert seen == [("zs_pets", 4, 6), ("zs_pets", 6, 6), ("retrieval_pets", 4, 6), ("retrieval_pets", 6, 6)]
    written = sorted(path.name for path in output.iterdir())
    assert len(written) == 4
    assert "zs_pets_test_ViT-Table_en_zeroshot_classification.json" in written


def test_the_file_follows_clip_benchmarks_schema(root: Path, encoder: TableEncoder, tmp_path: Path) -> None:
    result = run(encoder, root, ["zs_pets"], output=tmp_path / "out")[0]
    (path,) = (tmp_path / "out").glob("*.json")
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written == result.to_json() | {"data_root": str(root)}
    schema = {key: written[key] for key in ("dataset", "model", "pretrained", "task", "language")}
    assert schema == {
        "dataset": "zs_pets",
        "model": "ViT-Table",
        "pretrained": "test",
        "task": "zeroshot_classification",
        "language": "en",
    }
    assert set(written["metrics"]) == {"acc1", "acc5", "mean_per_class_recall", "ece"}
    assert written["bad"] == 1
    assert written["bad_first"][0][0] == "zs_pets/2"
    assert written["seconds"] >= 0
    with safe_open(path.with_suffix(".safetensors"), "pt") as samples:
        assert samples.get_tensor("acc1.values").tolist() == [1.0] * 5
        assert samples.get_tensor("acc1.group").tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(
    "name,model,tag",
    [
        ("runs/demo", "runs/demo", ""),
        ("hf-hub:org/model", "hf-hub:org/model", ""),
        ("ViT-B-32", "ViT-B-32", ""),
        ("ViT-B-32:openai", "ViT-B-32", "openai"),
        ("ViT-B-32:some/weights.safetensors", "ViT-B-32", "some/weights.safetensors"),
    ],
)
def test_model_and_tag(name: str, model: str, tag: str, root: Path, encoder: TableEncoder) -> None:
    encoder.name = name
    written = run(encoder, root, ["zs_pets"])[0].to_json()
    assert (written["model"], written["pretrained"]) == (model, tag)


def test_a_file_name_is_bounded_and_harmless(root: Path, encoder: TableEncoder, tmp_path: Path) -> None:
    names = []
    for ending in ("a", "b"):
        encoder.name = "../" * 3 + "runs/" + "x" * 300 + ending
        run(encoder, root, ["zs_pets"], output=tmp_path / "out")
        names = [path.name for path in (tmp_path / "out").glob("*.json")]
    assert len(names) == 2
    assert all(len(name) < 220 and "/" not in name for name in names)


def test_an_empty_list_evaluates_nothing(root: Path, encoder: TableEncoder) -> None:
    assert len(run(encoder, root, [])) == 0


def test_what_is_missing_or_damaged_is_listed_and_the_rest_evaluated(
    root: Path, encoder: TableEncoder, tmp_path: Path
) -> None:
    (root / "zs_broken").mkdir()
    (root / "zs_broken" / "classnames.txt").write_text("cat\n")
    write_tar(root / "zs_broken" / "test", {"0.png": png(0), "0.cls": b"7"})
    (root / "zs_broken" / "zeroshot_classification_templates.txt").write_text("a {c}\n")
    asked = ["retrieval_pets", "zs_pet", "zs_broken", "zs_pets"]
    results = run(encoder, root, asked, output=tmp_path / "out")
    assert {result.dataset for result in results} == {"retrieval_pets", "zs_pets"}
    missing, damaged = sorted(results.missing, key=lambda each: each.damaged)
    assert (missing.asked, missing.damaged) == ("zs_pet", False)
    assert "zs_pets" in missing.reason
    assert (damaged.asked, damaged.damaged) == ("zs_broken", True)
    assert "0.cls" in damaged.reason or "0.tar" in damaged.reason
    listed = json.loads((tmp_path / "out" / "missing.json").read_text("utf-8"))
    assert {row["asked"] for row in listed} == {"zs_pet", "zs_broken"}
    run(encoder, root, ["zs_pets"], output=tmp_path / "out")
    assert not (tmp_path / "out" / "missing.json").exists()


def test_a_set_of_which_no_image_can_be_read_is_damaged(root: Path, encoder: TableEncoder) -> None:
    write_tar(
        root / "retrieval_dark" / "test", {f"{i}.{end}": b"x" for i in range(20) for end in ("png", "txt")}
    )
    (root / "retrieval_dark" / "dataset_type.txt").write_text("retrieval")
    results = run(encoder, root, ["retrieval_dark", "zs_pets"])
    assert [result.dataset for result in results] == ["zs_pets"]
    assert "cannot be read" in results.missing[0].reason


def test_nothing_to_evaluate_is_an_error(root: Path, encoder: TableEncoder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the data sets can be used"):
        run(encoder, root, ["zs_pet"])
    with pytest.raises(DataError, match="no such folder"):
        run(encoder, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        run(encoder, tmp_path / "empty")
    assert encoder.image_batches == []


def test_unknown_suites_and_options_are_named(root: Path, encoder: TableEncoder) -> None:
    with pytest.raises(ConfigError, match="did you mean 'retrieval'"):
        evaluate(encoder, "retrival", root)
    with pytest.raises(ConfigError, match="names no suite"):
        evaluate(encoder, ",", root)
    with pytest.raises(ConfigError, match="no option 'shots'"):
        evaluate(encoder, "retrieval:shots=3", root)
    with pytest.raises(ConfigError, match="corrupt='zs_owls' is no classification set"):
        evaluate(encoder, "robustness:corrupt=zs_owls", root)


def test_a_suite_that_stops_does_not_stop_the_others(root: Path, encoder: TableEncoder) -> None:
    class Stopping:
        def results(self, embedder: Any, sets: Any) -> Any:
            raise DataError("its file is gone")
            yield

    results = evaluate(encoder, [Stopping(), "classification"], root, ["zs_pets"])
    assert [result.suite for result in results] == ["classification"]
    assert results.missing[0].damaged
    assert "its file is gone" in results.missing[0].reason


def test_a_suite_goes_on_without_a_set_it_cannot_use(root: Path, encoder: TableEncoder) -> None:
    class Cosine:
        def results(self, embedder: Any, sets: Any) -> Any:
            for each in sets:
                if each.name == "retrieval_pets":
                    raise DataError(f"{each.name}: captions of another language")
                yield Result(each.name, "cosine", {"cosine": 1.0}, {}, 1)

    results = evaluate(encoder, Cosine(), root)
    assert [result.dataset for result in results] == ["zs_pets"]
    (missing,) = results.missing
    assert missing.asked.startswith("retrieval_pets (")
    assert missing.reason.endswith("captions of another language")


def test_a_suite_without_a_set_of_its_kind_is_said(root: Path, encoder: TableEncoder) -> None:
    results = evaluate(encoder, "retrieval", root, ["zs_pets"])
    assert [(each.asked, each.damaged) for each in results.missing] == [("retrieval", False)]
    assert "none of the 1 data sets is for this" in results.missing[0].reason


def test_an_output_that_is_a_file_is_said_before_anything_is_encoded(
    root: Path, encoder: TableEncoder, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="cannot be made a folder"):
        run(encoder, root, output=tmp_path / "out")
    assert encoder.image_batches == []


def test_two_sets_of_one_name_are_refused(root: Path, encoder: TableEncoder) -> None:
    (one,) = usable_sets(root, ["zs_pets"])[0]
    with pytest.raises(ConfigError, match="several data sets are called zs_pets"):
        run(encoder, root, [one, "zs_pets"])


def test_a_result_says_which_images_it_saw(root: Path, encoder: TableEncoder) -> None:
    (one,) = usable_sets(root, ["zs_pets"])[0]
    (result,) = run(encoder, root, [one])
    assert result.fingerprint == one.images.fingerprint != ""
    assert result.to_json()["fingerprint"] == result.fingerprint


def test_several_models_lie_side_by_side(root: Path, encoder: TableEncoder, tmp_path: Path) -> None:
    other = TableEncoder(encoder.images.flip(0), encoder.texts)
    other.name = "other"
    results = run([encoder, other], root, ["zs_pets"], output=tmp_path / "out")
    assert [(result.model, result.metrics["acc1"]) for result in results] == [
        ("ViT-Table:test", 1.0),
        ("other", 0.0),
    ]
    assert len(list((tmp_path / "out").glob("*.json"))) == 2


def test_a_second_result_replaces_the_first_whole(root: Path, encoder: TableEncoder, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(encoder, root, ["zs_pets"], output=output)
    encoder.texts = dict.fromkeys(encoder.texts, torch.ones(6))
    run(encoder, root, ["zs_pets"], output=output)
    (path,) = output.glob("*.json")
    assert json.loads(path.read_text(encoding="utf-8"))["metrics"]["acc1"] == 0.0
    assert len(list(output.iterdir())) == 2


def test_no_graph_is_recorded(root: Path, encoder: TableEncoder) -> None:
    """Embeddings are made in inference mode, even by an encoder that would record a graph."""
    modes: list[bool] = []
    plain = encoder.encode_image

    def watched(pixels: torch.Tensor) -> torch.Tensor:
        modes.append(torch.is_inference_mode_enabled())
        return plain(pixels)

    encoder.encode_image = watched
    run(encoder, root, ["retrieval_pets"])
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
        run(encoder, root, ["retrieval_pets"])
