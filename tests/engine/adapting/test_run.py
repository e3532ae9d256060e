"""`adapt` from a model and a set to figures and files, beside the suites' own figures."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F

from patchclip.adapt.methods.gda import GDA
from patchclip.data.benchmarks import load_benchmark
from patchclip.embeddings.linear_map import LinearMap
from patchclip.engine.adapting.result import RESULT, Adaptation
from patchclip.engine.adapting.run import adapt
from patchclip.engine.adapting.saved import load_adapter, read_result
from patchclip.engine.adapting.settings import Settings
from patchclip.errors import CheckpointError, ConfigError, DataError, TowerError
from patchclip.evaluation._runner import evaluate
from patchclip.evaluation.embedder import Embedder
from patchclip.models.similarity import Raw
from patchclip.models.towers import load
from tests.engine.adapting._sets import write_captions, write_classes
from tests.models._tiny import encoder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_classes(tmp_path_factory.mktemp("sets"))
    return write_captions(root)


def test_gda_stands_beside_the_suites_own_figures(root: Path, tmp_path: Path) -> None:
    settings = Settings(shots=3, seeds=2, data_root=root)
    found = adapt(encoder(), "colours", "gda:alpha=1", settings, output=tmp_path)
    (row,) = found.rows
    results = evaluate(encoder(), "classification,linear-probe:shots=3;seeds=2", root, ["colours"])
    theirs = {result.task: result for result in results}
    assert row.zero_shot == (theirs["zeroshot_classification"].metrics["acc1"],) * 2
    assert sum(row.probe) / 2 == pytest.approx(theirs["linear_probe_3shot"].metrics["lp_acc1"])
    assert row.interval is not None
    assert row.interval[0] <= sum(row.gains) / 2 <= row.interval[1]
    assert [seed["images"] for seed in found.seeds] == [12, 12]
    assert read_result(tmp_path) == found
    assert json.loads((tmp_path / RESULT).read_text())["method"] == "gda:alpha=1"


def test_an_adapter_of_a_folder_answers_as_the_figures_say(root: Path, tmp_path: Path) -> None:
    settings = Settings(shots=4, seeds=2, data_root=root)
    found = adapt(encoder(), "colours", "gda", settings, output=tmp_path)
    saved = load_adapter(tmp_path)
    assert isinstance(saved.adapter, GDA)
    assert saved.classnames == ("blue", "green", "grey", "red")
    assert saved.prompts[0] == ("a photo of a blue.",)
    benchmark = load_benchmark(root, "colours")
    images = Embedder(encoder()).images(benchmark.images, "colours").embeddings
    right = saved.adapter.predict(images) == torch.from_numpy(benchmark.labels)  # type: ignore[union-attr]
    assert float(right.double().mean()) == found.rows[0].adapted[0]
    (tmp_path / "adapter.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(CheckpointError, match="holds no adapter"):
        load_adapter(tmp_path)


def test_new_classes_have_figures_of_their_own(root: Path) -> None:
    settings = Settings(shots=3, seeds=2, new_classes=0.5, data_root=root)
    found = adapt(encoder(), "colours", "gda:alpha=1", settings)
    base, new, both = found.rows
    assert [row.measure for row in found.rows][:2] == ["accuracy, base classes", "accuracy, new classes"]
    assert base.probe
    assert not new.probe
    for a, b, c in zip(base.adapted, new.adapted, both.adapted, strict=True):
        assert c == pytest.approx(2 * a * b / (a + b) if a + b else 0)
    benchmark, embedder = load_benchmark(root, "colours"), Embedder(encoder())
    labels = torch.from_numpy(benchmark.labels)  # type: ignore[union-attr]
    cosines = embedder.images(benchmark.images, "").embeddings @ embedder.classes(benchmark).T  # type: ignore[arg-type]
    expected = (cosines[labels >= 2][:, 2:].argmax(1) + 2 == labels[labels >= 2]).double().mean()
    assert new.zero_shot[0] == pytest.approx(float(expected))


def test_adapted_towers_are_a_model_that_eval_reads(root: Path, tmp_path: Path) -> None:
    own = encoder()
    before = {name: value.clone() for name, value in own.model.state_dict().items()}
    settings = Settings(shots=2, seeds=2, data_root=root)
    found = adapt(own, "colours", "clipood:steps=4;lr=0.001;batch_size=4", settings, output=tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in own.model.state_dict().items())
    adapted = load(tmp_path / "model", device="cpu")
    assert any(not torch.equal(value, before[name]) for name, value in adapted.model.state_dict().items())
    (result,) = evaluate(adapted, "classification", root, ["colours"])
    assert result.metrics["acc1"] == found.rows[0].adapted[0]


def test_a_map_of_captions_is_folded_into_a_plain_model(root: Path, tmp_path: Path) -> None:
    settings = Settings(seeds=2, negatives="swap", data_root=root)
    method = "labclip:epochs=30;batch_size=8;learning_rate=0.01"
    found = adapt(encoder(), "pairs", method, settings, output=tmp_path)
    assert found.rows[0].measure == "true caption over false one"
    assert all(seed["captions"] + seed["held_out"] <= 24 for seed in found.seeds)
    plain, fitted = encoder(), LinearMap.load(tmp_path / "map.safetensors")
    tokens = plain.tokenizer(["a red cube beside a blue ball", "a cat"])
    expected = F.normalize(fitted.apply(plain.encode_text(tokens)), dim=-1)
    read = open_clip.create_model(f"local-dir:{tmp_path / 'model'}", require_pretrained=True).eval()
    with torch.no_grad():
        told = F.normalize(read.encode_text(tokens), dim=-1)
    torch.testing.assert_close(told, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(told, plain.encode_text(tokens), atol=1e-3)
    assert read_result(tmp_path) == found


def test_pairs_of_training_are_captioned_images_too(tmp_path: Path) -> None:
    write_captions(tmp_path)
    settings = Settings(seeds=1, negatives="swap", pairs=12, data_root=tmp_path)
    found = adapt(encoder(), str(tmp_path / "pairs" / "test"), "labclip:epochs=1", settings)
    assert found.seeds[0]["captions"] + found.seeds[0]["held_out"] <= 12


def test_the_same_seeds_give_the_same_figures(root: Path) -> None:
    def figures() -> Adaptation:
        return adapt(encoder(), "colours", "gda", Settings(shots=2, seeds=2, first_seed=5, data_root=root))

    first, second = figures(), figures()
    assert first.rows == second.rows
    assert [seed["seed"] for seed in first.seeds] == [5, 6]


def test_what_cannot_be_adapted_is_named(root: Path, tmp_path: Path) -> None:
    settings = Settings(data_root=root)
    for data, method, error, words in (
        ("colors", "gda", DataError, "did you mean 'colours'"),
        ("pairs", "gda", DataError, "no class for each image"),
        ("colours", "labclip", DataError, "has no captions"),
        ("nothing", "labclip", DataError, "nothing"),
        ("colours", "gda:alpha=-1", ConfigError, "alpha=-1"),
        ("colours", "gda:beta=1", ConfigError, "no option 'beta'"),
    ):
        with pytest.raises(error, match=words):
            adapt(encoder(), data, method, settings)
    with pytest.raises(ConfigError, match="views=2 is for adapters"):
        adapt(encoder(), "colours", "clipood:steps=1", Settings(views=2, data_root=root))
    with pytest.raises(ConfigError, match="corruptors"):
        adapt(encoder(), "pairs", "labclip", Settings(negatives="soft", data_root=root))
    raw = encoder()
    raw.similarity = Raw()
    with pytest.raises(TowerError, match="does not score by cosines"):
        adapt(raw, "colours", "gda", settings)
    with pytest.raises(CheckpointError, match="cannot be read as an adaptation"):
        read_result(tmp_path)
