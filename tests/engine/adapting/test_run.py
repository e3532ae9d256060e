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


@pytest.mark.parametrize(
    "data, method, given",
    [
        ("colours", "gda", {"negatives": "swap"}),
        ("colours", "gda", {"pairs": 5}),
        ("colours", "clipood:steps=1", {"views": 2}),
        ("colours", "clipood:steps=1", {"pairs": 5}),
        ("pairs", "labclip:epochs=1", {"shots": 1}),
        ("pairs", "labclip:epochs=1", {"new_classes": 0.5}),
        ("pairs", "labclip:epochs=1", {"views": 3}),
    ],
)
def test_a_setting_without_effect_is_refused(
    data: str, method: str, given: dict[str, object], root: Path
) -> None:
    ((name, value),) = given.items()
    with pytest.raises(ConfigError, match=f"{name}={value} has no effect on {method}"):
        adapt(encoder(), data, method, Settings(**given, data_root=root))  # type: ignore[arg-type]


def test_settings_without_effect_are_not_written_down(root: Path) -> None:
    found = adapt(encoder(), "colours", "gda:alpha=1", Settings(shots=2, seeds=1, data_root=root))
    assert set(found.settings) == {"shots", "seeds", "first_seed", "new_classes", "views", "data_root"}
    settings = Settings(seeds=1, negatives="swap", data_root=root)
    captions = adapt(encoder(), "pairs", "labclip:epochs=1", settings)
    assert set(captions.settings) == {"seeds", "first_seed", "negatives", "pairs", "data_root"}


@pytest.mark.parametrize(
    "method, shots, images, words",
    [
        (
            "clipood:steps=1;batch_size=4",
            0,
            32,
            "alone chosen on a tenth of them, which the probe does not",
        ),
        ("clipood:steps=1;batch_size=4", 3, 12, "linear probe's strength alone chosen on other training"),
        ("clipood:steps=1;batch_size=4", 8, 32, "no images left for a linear probe"),
        ("gda", 0, 28, "; settings chosen on a tenth of them, which is not learned from;"),
        ("gda", 3, 12, "; settings chosen on other training images;"),
        ("gda", 8, 32, "; no images left to choose settings on;"),
    ],
)
def test_the_protocol_says_what_was_chosen_on_what(
    method: str, shots: int, images: int, words: str, root: Path
) -> None:
    found = adapt(encoder(), "colours", method, Settings(shots=shots, seeds=1, data_root=root))
    assert found.seeds[0]["images"] == images
    assert words in found.protocol
    assert bool(found.rows[0].probe) == (shots != 8)


def test_unreadable_images_are_told(tmp_path: Path) -> None:
    write_classes(tmp_path)
    for part in ("test/red/0.png", "train/blue/1.png"):
        (tmp_path / "colours" / part).write_bytes(b"torn")
    settings = Settings(shots=2, seeds=1, data_root=tmp_path)
    found = adapt(encoder(), "colours", "gda:alpha=1", settings, output=tmp_path / "out")
    assert [each["key"] for each in found.bad] == ["colours/train/1", "colours/test/18"]
    assert all(each["reason"] for each in found.bad)
    assert list(found.lines())[-1].startswith("2 images could not be read and were left out, the first: col")
    assert read_result(tmp_path / "out") == found
    write_captions(tmp_path)
    (tmp_path / "pairs" / "test" / "003.png").write_bytes(b"torn")
    settings = Settings(seeds=1, negatives="swap", data_root=tmp_path)
    captions = adapt(encoder(), "pairs", "labclip:epochs=1", settings)
    assert len(captions.bad) == 1
    assert list(captions.lines())[-1].startswith("1 image could not be read and was left out: ")


def test_figures_of_before_bad_images_were_kept_are_read(root: Path, tmp_path: Path) -> None:
    settings = Settings(shots=2, seeds=1, data_root=root)
    found = adapt(encoder(), "colours", "gda:alpha=1", settings, output=tmp_path)
    record = json.loads((tmp_path / RESULT).read_text())
    del record["bad"]
    (tmp_path / RESULT).write_text(json.dumps(record))
    assert read_result(tmp_path) == found


def test_a_folder_holds_one_adaptation(root: Path, tmp_path: Path) -> None:
    def kept(data: str, method: str, settings: Settings) -> set[str]:
        adapt(encoder(), data, method, settings, output=tmp_path)
        names = {path.name for path in tmp_path.iterdir()}
        (tmp_path / "report.html").write_text("of this one")
        return names

    shots, words = (
        Settings(shots=2, seeds=1, data_root=root),
        Settings(seeds=1, negatives="swap", data_root=root),
    )
    (tmp_path / "notes.txt").write_text("mine")
    plain = {"result.json", "notes.txt"}
    assert kept("colours", "clipood:steps=1;batch_size=4", shots) == plain | {"model"}
    assert kept("colours", "gda", shots) == plain | {"adapter.json", "adapter.safetensors"}
    assert kept("pairs", "labclip:epochs=1", words) == plain | {"map.safetensors", "model"}
    assert kept("colours", "clipood:steps=1;batch_size=4", shots) == plain | {"model"}


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
    with pytest.raises(ConfigError, match="corruptors"):
        adapt(encoder(), "pairs", "labclip", Settings(negatives="soft", data_root=root))
    raw = encoder()
    raw.similarity = Raw()
    with pytest.raises(TowerError, match="does not score by cosines"):
        adapt(raw, "colours", "gda", settings)
    with pytest.raises(CheckpointError, match="cannot be read as an adaptation"):
        read_result(tmp_path)
