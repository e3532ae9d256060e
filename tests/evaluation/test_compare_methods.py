"""A comparison says where the models were segmented by different methods."""

from pathlib import Path

import torch

from patchclip.evaluation.compare import compare
from patchclip.evaluation.result import Result, Samples
from patchclip.report.compare import lines, write_comparison


def save(folder: Path, model: str, method: str, dataset: str = "voc") -> None:
    samples = Samples(torch.rand(20, generator=torch.Generator().manual_seed(len(model))), torch.arange(20))
    found = Result(
        dataset=dataset,
        task="segmentation",
        metrics={"miou": samples.values.double().mean().item()},
        chance={"miou": 0.1},
        images=20,
        classes=3,
        model=model,
        suite="segmentation",
        samples={"miou": samples},
        details={"method": method} if method else {},
    )
    found.save(folder)


def test_methods_that_differ_are_named(tmp_path: Path) -> None:
    save(tmp_path, "aligned", "pacl")
    save(tmp_path, "base", "naclip")
    found = compare([tmp_path], draws=5)
    (row,), (mean,) = found.rows, found.averages
    assert row.methods == mean.methods == ("pacl", "naclip")
    assert sum("pacl against naclip" in line for line in found.lines()) == 2
    assert "pacl against naclip" in lines(found.rows)[0].small
    assert "1 set, pacl against naclip" in lines(found.averages, words=True)[0].small
    page = write_comparison(found, tmp_path / "page.html").read_text("utf-8")
    assert page.count("pacl against naclip") == 2
    assert found.to_json()["rows"][0]["methods"] == ("pacl", "naclip")


def test_one_method_or_none_is_not_mentioned(tmp_path: Path) -> None:
    for method in ("naclip", ""):
        folder = tmp_path / (method or "none")
        folder.mkdir()
        for model in ("a", "b"):
            save(folder, model, method)
        found = compare([folder], draws=5)
        assert found.rows[0].methods == ()
        assert "against" not in "".join(found.lines())
        assert lines(found.rows)[0].small == ""


def test_a_mean_names_the_methods_of_all_its_sets(tmp_path: Path) -> None:
    save(tmp_path, "a", "pacl", "voc")
    save(tmp_path, "a", "pacl", "ade")
    save(tmp_path, "b", "pacl", "voc")
    save(tmp_path, "b", "raw", "ade")
    (mean,) = compare([tmp_path], draws=5).averages
    assert mean.methods == ("pacl", "pacl + raw") or mean.methods == ("pacl", "raw + pacl")
