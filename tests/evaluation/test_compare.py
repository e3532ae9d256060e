import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation import _bootstrap
from patchclip.evaluation._saved import read_folder, short_names
from patchclip.evaluation.compare import compare
from patchclip.evaluation.result import Result, Samples


def outcome(share: float, count: int = 200, seed: int = 0) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    return Samples((torch.rand(count, generator=generator) < share).float(), torch.arange(count))


def classified(model: str, samples: Samples, dataset: str = "pets") -> Result:
    return Result(
        dataset=dataset,
        task="zeroshot_classification",
        metrics={"acc1": samples.values.double().mean().item(), "ece": 0.1},
        chance={"acc1": 0.1},
        images=len(samples.values),
        classes=10,
        model=model,
        suite="classification",
        samples={"acc1": samples},
    )


def test_identical_models_differ_by_exactly_nothing(tmp_path: Path) -> None:
    ragged = Samples(torch.rand(100, generator=torch.Generator().manual_seed(1)), torch.arange(100) // 3)
    for model in ("a", "b"):
        classified(model, ragged).save(tmp_path)
    found = compare([tmp_path])
    apart = found.rows[0].differences[1]
    assert apart is not None
    assert (apart.value, apart.low, apart.high, apart.below) == (0.0, 0.0, 0.0, 0.0)
    assert not apart.significant
    assert apart.groups == 34


def test_the_interval_is_the_normal_one_for_independent_coins(tmp_path: Path) -> None:
    first, second = outcome(0.5, 2000, 1), outcome(0.6, 2000, 2)
    classified("a", first).save(tmp_path)
    classified("b", second).save(tmp_path)
    row = compare([tmp_path]).rows[0]
    apart = row.differences[1]
    assert apart is not None
    assert apart.low is not None
    assert apart.high is not None
    each = (second.values - first.values).double().numpy()
    half = 1.96 * each.std() / math.sqrt(2000)
    assert apart.value == pytest.approx(each.mean(), abs=1e-9)
    assert (apart.high - apart.low) / 2 == pytest.approx(half, rel=0.1)
    assert (apart.high + apart.low) / 2 == pytest.approx(each.mean(), abs=0.1 * half)
    assert apart.significant
    assert apart.below == pytest.approx(0.0, abs=1e-3)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = torch.Generator().manual_seed(3)
    covered = 0
    for repeat in range(200):
        base = (torch.rand(300, generator=generator) < 0.5).float()
        flip = torch.rand(300, generator=generator) < 0.3
        other = torch.where(flip, (torch.rand(300, generator=generator) < 0.7).float(), base)
        group = torch.arange(300) // 2
        pair = _bootstrap.pair(Samples(base, group), Samples(other, group))
        assert pair is not None
        drawn = _bootstrap.differences({"acc1": pair}, 300, np.random.default_rng(repeat))
        ends = _bootstrap.interval(drawn["acc1"])
        assert ends is not None
        covered += ends[0] <= 0.3 * (0.7 - 0.5) <= ends[1]
    assert 0.90 <= covered / 200 <= 0.99


def test_a_ragged_draw_is_a_ratio_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    group = torch.tensor([5, 5, 5, 8, 9, 9])
    first = Samples(torch.tensor([1.0, 0, 0, 1, 0, 1]), group)
    second = Samples(torch.tensor([1.0, 1, 0, 0, 1, 1, 1]), torch.tensor([5, 5, 5, 8, 9, 9, 11]))
    pair = _bootstrap.pair(first, second)
    assert pair is not None
    assert not pair.whole
    assert pair.groups.tolist() == [5, 8, 9]
    assert pair.difference == pytest.approx(4 / 6 - 3 / 6)
    weights = np.array([[3.0, 0, 0], [0, 3, 0], [1, 0, 2], [1, 1, 1]])
    monkeypatch.setattr(_bootstrap, "_weights", lambda groups, draws, generator: iter([weights]))
    drawn = _bootstrap.differences({"m": pair}, 4, np.random.default_rng(0))["m"]
    assert drawn.tolist() == pytest.approx([2 / 3 - 1 / 3, 0 - 1, 6 / 7 - 3 / 7, 4 / 6 - 3 / 6])


def test_weights_are_multinomial_and_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(_bootstrap._weights(7, 1000, np.random.default_rng(0))))
    monkeypatch.setattr(_bootstrap, "BLOCK_DRAWS", 20)
    parts = list(_bootstrap._weights(7, 1000, np.random.default_rng(0)))
    assert len(parts) == 500
    assert np.array_equal(np.concatenate(parts), whole)
    assert (whole.sum(1) == 7).all()
    assert whole.mean(0) == pytest.approx(np.ones(7), abs=0.15)
    assert whole.var(0) == pytest.approx(np.full(7, 6 / 7), abs=0.2)


def test_the_mean_over_sets_takes_the_sets_that_all_have(tmp_path: Path) -> None:
    for seed, (dataset, models) in enumerate({"pets": "abc", "cars": "ab", "food": "abc"}.items()):
        for model in models:
            share = {"a": 0.3, "b": 0.5, "c": 0.3}[model]
            classified(model, outcome(share, 400, seed), dataset).save(tmp_path)
    found = compare([tmp_path])
    assert found.models == ("a", "b", "c")
    (mean,) = found.averages
    assert (mean.sets, mean.metric) == (2, "acc1")
    rows = {row.dataset: row for row in found.rows if row.metric == "acc1"}
    assert mean.values[1] == pytest.approx((rows["pets"].values[1] + rows["food"].values[1]) / 2)
    assert rows["cars"].values[2] is None
    better, same = mean.differences[1:]
    alone = rows["pets"].differences[1]
    assert better.significant
    assert better.groups == 800
    assert better.high - better.low == pytest.approx((alone.high - alone.low) / math.sqrt(2), rel=0.2)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_categories_of_one_set_share_their_draws_of_images(tmp_path: Path) -> None:
    for i, model in enumerate("ab"):
        for kind in ("swap", "add"):
            samples = outcome(0.4 + 0.2 * i, 300, i)
            found = classified(model, samples, f"crepe/{kind}")
            metrics = {"text_acc": found.metrics["acc1"]}
            shared = {"task": "image_caption_selection", "metrics": metrics, "samples": {"text_acc": samples}}
            replace(found, **shared).save(tmp_path)
    compared = compare([tmp_path])
    mean, one = compared.averages[0].differences[1], compared.rows[0].differences[1]
    assert mean is not None
    assert one is not None
    assert (mean.low, mean.high) == pytest.approx((one.low, one.high))
    assert mean.groups == 300


def fingerprinted(folder: Path, pets: tuple[str, str], cars: tuple[str, str] = ("", "")) -> Path:
    """Two models on two sets, with the fingerprints of their images."""
    for dataset, prints in (("pets", pets), ("cars", cars)):
        for model, share, mark in zip("ab", (0.3, 0.8), prints, strict=True):
            extras = {"fingerprint": mark} if mark else {}
            classified(model, outcome(share), dataset).save(folder, **extras)
    return folder


def test_sets_of_other_images_are_neither_paired_nor_averaged(tmp_path: Path) -> None:
    found = compare([fingerprinted(tmp_path, ("1234", "abcd"))], draws=50)
    rows = [row for row in found.rows if row.dataset == "pets"]
    assert {row.metric for row in rows} == {"acc1", "ece"}
    for row in rows:
        apart = row.differences[1]
        assert apart is not None
        assert (apart.other_images, apart.low, apart.high, apart.groups) == (True, None, None, 0)
    assert sum(line.endswith("  other images") for line in found.lines()) == 2
    cars = next(row for row in found.rows if (row.dataset, row.metric) == ("cars", "acc1"))
    (mean,) = found.averages
    assert mean.sets == 1
    assert mean.values == cars.values
    assert cars.differences[1] is not None
    assert cars.differences[1].significant


@pytest.mark.parametrize("prints", [("12", "12"), ("12", ""), ("", "12"), ("", "")])
def test_sets_of_the_same_or_unknown_images_are_paired(tmp_path: Path, prints: tuple[str, str]) -> None:
    found = compare([fingerprinted(tmp_path, prints)], draws=50)
    assert found.averages[0].sets == 2
    for row in found.rows:
        apart = row.differences[1]
        assert apart is not None
        assert not apart.other_images
        assert (apart.low is not None) == (row.metric == "acc1")


def test_a_set_and_its_copy_of_clip_benchmark_stay_apart_where_a_model_has_both(tmp_path: Path) -> None:
    for dataset, share in (("pets", 0.2), ("wds/pets", 0.7), ("wds/cars", 0.5)):
        classified("a", outcome(share), dataset).save(tmp_path / "both")
    classified("b", outcome(0.7), "wds/pets").save(tmp_path / "one")
    classified("b", outcome(0.5), "cars").save(tmp_path / "one")
    names = [each["set_name"] for _, each in read_folder(tmp_path / "both")]
    assert names == ["pets", "cars", "wds/pets"]
    found = compare([tmp_path / "both", tmp_path / "one"], draws=50)
    rows = {row.dataset: row for row in found.rows if row.metric == "acc1"}
    assert set(rows) == {"wds/pets", "cars"}
    assert rows["wds/pets"].values[0] == rows["wds/pets"].values[1]


def test_metrics_without_samples_have_a_difference_alone(tmp_path: Path) -> None:
    classified("a", outcome(0.5)).save(tmp_path)
    other = classified("b", outcome(0.6))
    replace(other, metrics=other.metrics | {"ece": 0.4}).save(tmp_path)
    row = next(row for row in compare([tmp_path]).rows if row.metric == "ece")
    apart = row.differences[1]
    assert apart is not None
    assert (round(apart.value, 9), apart.low, apart.high, apart.groups) == (0.3, None, None, 0)


def test_the_same_seed_gives_the_same_whatever_else_is_there(tmp_path: Path) -> None:
    for model, share in (("a", 0.4), ("b", 0.5)):
        classified(model, outcome(share, seed=ord(model))).save(tmp_path)
    alone = compare([tmp_path], draws=300, seed=7)
    for model in "ab":
        classified(model, outcome(0.5), "another").save(tmp_path)
    beside = compare([tmp_path], draws=300, seed=7)
    assert alone.rows[0] in beside.rows
    assert compare([tmp_path], draws=300, seed=8).rows[-2] != beside.rows[-2]


def test_lines_show_difference_interval_and_mark(tmp_path: Path) -> None:
    for model, share in (("a", 0.2), ("b", 0.8)):
        classified(model, outcome(share)).save(tmp_path)
    found = compare([tmp_path])
    (line,) = [line for line in found.lines() if line.startswith("pets") and " acc1 " in line]
    assert "*" in line
    assert "[+" in line
    assert max(map(len, found.lines())) < 120
    assert json.loads(json.dumps(found.to_json()))["averages"][0]["differences"][1]["groups"] == 200


def test_runs_with_one_architecture_are_named_by_their_folders(tmp_path: Path) -> None:
    for run in ("dense", "pgs"):
        classified("tiny", outcome(0.5)).save(tmp_path / run / "eval")
    assert compare([tmp_path / "dense", tmp_path / "pgs"], draws=10).models == ("dense", "pgs")
    twice = compare([tmp_path / "dense", tmp_path / "dense"], draws=10).models
    assert len(set(twice)) == 2


def test_a_folder_without_results_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    classified("a", outcome(0.5)).save(tmp_path / "full")
    with pytest.raises(DataError, match="holds no results"):
        compare([tmp_path / "full", tmp_path / "empty"])
    with pytest.raises(DataError, match="is not a folder"):
        compare([tmp_path / "nowhere", tmp_path / "full"])
    with pytest.raises(ConfigError, match="at least two"):
        compare([tmp_path / "full"])
    with pytest.raises(ConfigError, match="draws=0"):
        compare([tmp_path / "full", tmp_path / "full"], draws=0)


def test_models_without_a_common_set_name_what_each_has(tmp_path: Path) -> None:
    classified("a", outcome(0.5), "pets").save(tmp_path)
    classified("b", outcome(0.5), "cars").save(tmp_path)
    with pytest.raises(DataError, match=r"a has pets .*, b has cars "):
        compare([tmp_path])


def test_damaged_samples_are_named(tmp_path: Path) -> None:
    for model in "ab":
        path = classified(model, outcome(0.5)).save(tmp_path)
    path.with_suffix(".safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="cannot be read"):
        compare([tmp_path])


def test_files_of_clip_benchmark_are_read_and_others_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = {
        "dataset": "wds/pets",
        "model": "ViT-B-32",
        "pretrained": "openai",
        "task": "zeroshot_classification",
        "metrics": {"acc1": 0.5, "acc5": float("nan")},
        "language": "en",
    }
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "cut.json").write_text('{"metr')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "huge.json").write_text(f'{{"dataset": "x", "task": "t", "metrics": {{"m": 1{"0" * 400}}}}}')
    classified("a", outcome(0.5)).save(tmp_path)
    found = [result for _, result in read_folder(tmp_path)]
    assert [result["metrics"].get("acc5") for result in found] == [None, None, None]
    assert {result["model"]: len(result["metrics"]) for result in found} == {"a": 2, "ViT-B-32": 1, "": 0}
    assert "list.json" in caplog.text
    assert "cut.json" in caplog.text
    assert "deep.json" in caplog.text
    (tmp_path / "huge.json").unlink()
    assert compare([tmp_path], draws=5).rows[0].dataset == "pets"


def test_names_of_paths_are_as_short_as_they_can_be() -> None:
    keys = ["/x/runs/pgs-0", "/x/runs/pgs-1", "ViT-B-32:openai"]
    assert list(short_names(keys).values()) == ["pgs-0", "pgs-1", "ViT-B-32:openai"]
    assert list(short_names(["/a/best", "/b/best"]).values()) == ["a/best", "b/best"]
