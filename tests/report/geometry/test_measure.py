"""What is measured: embeddings as the towers give them, and every analysis of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from patchclip import registry
from patchclip.errors import DataError
from patchclip.report.geometry.measure import measure, quantiles
from tests.report.geometry._tiny import CAPTIONS, captioned, embedder


def test_raw_embeddings_and_all_analyses(tmp_path: Path) -> None:
    data, reader = captioned(tmp_path), embedder()
    found = measure(reader, data)
    pixels = torch.stack([reader.encoder.preprocess(data.images[row]) for row in data.rows])
    with torch.no_grad():
        expected = reader.encoder.model.encode_image(pixels)
        text = reader.encoder.model.encode_text(reader.encoder.tokenizer(CAPTIONS))
    torch.testing.assert_close(found.image.rows, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.text.rows, text, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.image.norms.float(), expected.norm(dim=1), atol=1e-4, rtol=1e-4)
    assert {*found.figures, *found.failed} == {*registry.names("geometry"), "scores"}
    assert set(found.figures["scores"]) == set(registry.names("scores"))
    assert found.figures["modality_gap"]
    assert (len(found), found.captions, found.rows) == (9, tuple(CAPTIONS), tuple(range(9)))
    assert found.rank == 2  # a direction for every four rows
    assert found.image.plane.shape == (9, 2)


def test_most_and_least_likely_are_in_order(tmp_path: Path) -> None:
    side = measure(embedder(), captioned(tmp_path)).image
    most, least = side.most_and_least(3)
    order = side.likelihoods.argsort(descending=True).tolist()
    assert (most, least) == (order[:3], order[::-1][:3])


def test_broken_weights_are_named(tmp_path: Path) -> None:
    reader = embedder()
    with torch.no_grad():
        reader.encoder.model.visual.proj.fill_(float("nan"))
    with pytest.raises(DataError, match="image embeddings are not finite"):
        measure(reader, captioned(tmp_path))


def test_quantiles_have_names() -> None:
    found = quantiles(torch.arange(5.0))
    assert found == {"min": 0.0, "q25": 1.0, "median": 2.0, "q75": 3.0, "max": 4.0}


def test_captions_that_repeat_are_measured_in_the_directions_they_have(tmp_path: Path) -> None:
    data, reader = captioned(tmp_path), embedder()
    two = replace(data, captions=tuple(data.captions[i % 2] for i in range(len(data.captions))))
    assert measure(reader, two).rank == 1
    with pytest.raises(DataError, match="embedded alike"):
        measure(reader, replace(data, captions=tuple(data.captions[:1] * len(data.captions))))
