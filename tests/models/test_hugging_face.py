"""Models of transformers, written and read back: the embeddings are those of transformers itself."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import patchclip
from patchclip.errors import CheckpointError, ConfigError, TowerError
from patchclip.masking.random import RandomMask
from patchclip.models import hugging_face
from patchclip.models.hugging_face import FAMILIES, HuggingFaceEncoder, open_hugging_face
from patchclip.models.towers import load
from tests.models._hugging_face import CONFIGS, LENGTHS, write

TEXTS = ["a red dog", "two houses and a tree and a dog and a cat and a red red red house", ""]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of every kind, as transformers writes it."""
    root = tmp_path_factory.mktemp("models")
    return {kind: write(kind, root / kind) for kind in CONFIGS}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A CLIP to damage."""
    return Path(shutil.copytree(folders["clip"], tmp_path / "clip"))


def pictures(n: int = 3) -> list[Image.Image]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 40, 50, 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(each.numpy()) for each in pixels]


def pooled(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else found.pooler_output


@pytest.mark.parametrize("kind", CONFIGS)
def test_embeddings_are_those_of_transformers(folders: dict[str, Path], kind: str) -> None:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    found = load(folders[kind], device="cpu")
    model = AutoModel.from_pretrained(folders[kind]).eval()
    processor, tokenizer = (
        each.from_pretrained(folders[kind]) for each in (AutoImageProcessor, AutoTokenizer)
    )
    pixels = torch.stack([found.preprocess(image) for image in pictures()])
    made = processor(images=pictures(), return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels, made)
    padded = tokenizer(
        TEXTS, padding="max_length", truncation=True, max_length=LENGTHS[kind], return_tensors="pt"
    )
    tokens = found.tokenizer(TEXTS)
    assert torch.equal(tokens, padded["input_ids"])
    if kind == "siglip":
        del padded["attention_mask"]
    with torch.no_grad():
        images = F.normalize(pooled(model.get_image_features(made)), dim=-1)
        texts = F.normalize(pooled(model.get_text_features(**padded)), dim=-1)
    assert torch.equal(found.encode_image(pixels), images)
    torch.testing.assert_close(found.encode_text(tokens), texts, atol=1e-6, rtol=0)
    assert found.scale == pytest.approx(model.logit_scale.exp().item())
    assert not found.model.training


@pytest.mark.parametrize("kind", CONFIGS)
def test_patches_are_pooled_one_by_one(folders: dict[str, Path], kind: str) -> None:
    """A patch is pooled as if it were all that the tower saw: SigLIP's attention, CLIP's class token."""
    found = load(folders[kind], device="cpu")
    pixels = torch.stack([found.preprocess(image) for image in pictures()])
    patches = found.patch_features(pixels)
    assert patches.grid == found.grid == (4, 4)
    assert patches.features.shape == (3, 16, 24)
    torch.testing.assert_close(patches.features.norm(dim=-1), torch.ones(3, 16))
    tower = found.model.vision_model
    tokens = tower(pixel_values=pixels).last_hidden_state
    if kind == "siglip":
        expected = tower.head(tokens[:, 5:6].expand(-1, 7, -1))
    else:  # as if patch 5 were the class token
        expected = found.model.visual_projection(tower.post_layernorm(tokens[:, 6]))
    torch.testing.assert_close(patches.features[:, 5], F.normalize(expected, dim=-1))


@pytest.mark.parametrize("kind", ["altclip", "chinese_clip", "clip"])
def test_padding_changes_no_text(folders: dict[str, Path], kind: str) -> None:
    found = load(folders[kind], device="cpu")
    short = SimpleNamespace(tokens=found.tokenizer(TEXTS[:1]))
    used = int((short.tokens[0] != found.tokenizer.tokenizer.pad_token_id).sum()) + 1
    torch.testing.assert_close(found.encode_text(short.tokens), found.encode_text(short.tokens[:, :used]))


def test_names_and_sizes(folders: dict[str, Path]) -> None:
    path = folders["clip"]
    found = load(f"hf:{path}", device="cpu", precision="bf16")
    assert isinstance(found, HuggingFaceEncoder)
    assert (found.name, found.precision, found.image_size) == (f"hf:{path}", "bf16", 32)
    assert found.device.type == "cpu"
    pixels = found.preprocess(pictures(1)[0])[None]
    half, full = found.encode_image(pixels), load(path, device="cpu").encode_image(pixels)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, atol=0.05, rtol=0)
    assert not torch.equal(half, full)
    assert found.preprocess(pictures(1)[0].convert("L")).shape == (3, 32, 32)


def test_a_model_of_transformers_is_not_taken_apart(folders: dict[str, Path]) -> None:
    encoder = patchclip.load(next(iter(folders.values())), device="cpu")
    with pytest.raises(TowerError, match="cannot be taken apart; load the same weights through"):
        encoder.tower()


def test_weights_of_half_precision_are_read_as_float32(copy: Path) -> None:
    state = load_file(copy / "model.safetensors")
    save_file(
        {key: value.half() for key, value in state.items()}, copy / "model.safetensors", {"format": "pt"}
    )
    model = load(copy, device="cpu").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_masks_need_an_open_clip_model(folders: dict[str, Path]) -> None:
    found = load(folders["siglip"], device="cpu")
    with pytest.raises(TowerError, match=r"RandomMask.* needs an open_clip model"):
        found.encode_image(torch.zeros(1, 3, 32, 32), masking=RandomMask(0.5))


def test_it_can_be_evaluated(folders: dict[str, Path]) -> None:
    found = load(folders["clip"], device="cpu")
    (result,) = patchclip.evaluate(found, "classification", "samples", ["zs_photo"])
    assert (result.task, result.model) == ("zeroshot_classification", str(folders["clip"]))
    assert result.metrics["acc1"] <= result.metrics["acc5"] <= 1


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("blip", "clip, siglip"), ("clip_vision_model", "clip, siglip"), ("siglip2", "has model_type siglip,")],
)
def test_other_model_types_are_refused(tmp_path: Path, kind: str, hint: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"model_type='{kind}', which must be one of .*{hint}"):
        load(tmp_path)


def test_a_type_unknown_to_transformers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config.json cannot be read .*nothing"):
        load(tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "preprocessor_config.json"])
def test_a_missing_file_is_named(copy: Path, file: str) -> None:
    (copy / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} cannot be read"):
        load(copy)


@pytest.mark.parametrize("kind", ["clip", "siglip", "altclip"])
def test_a_missing_tokenizer_is_noticed(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """transformers may make an empty one."""
    folder = Path(shutil.copytree(folders[kind], tmp_path / kind))
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer.* (cannot be read|are missing)"):
        load(folder)


def test_pickled_weights_are_not_read(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read"):
        load(copy)


def test_truncated_weights_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read"):
        load(copy)


def test_no_weight_is_made_up(copy: Path) -> None:
    state = load_file(copy / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing .* visual_projection.weight"):
        load(copy)


def test_pixels_of_the_wrong_size_are_noticed_at_once(copy: Path) -> None:
    file = copy / "preprocessor_config.json"
    settings = json.loads(file.read_text("utf-8"))
    settings["crop_size"] = {"height": 24, "width": 24}
    file.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"makes pixels \[3, 24, 24\] .* takes \[3, 32, 32\]"):
        load(copy)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name=name)

    monkeypatch.setattr(hugging_face.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"hf:org/name needs .*pip install 'patchclip\[hf\]'"):
        open_hugging_face("hf:org/name")


@pytest.mark.parametrize("hidden", [False, True])
def test_no_bar_of_the_weights_is_shown(
    folders: dict[str, Path], capfd: pytest.CaptureFixture[str], hidden: bool
) -> None:
    from huggingface_hub import utils as hub
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled(), hub.are_progress_bars_disabled()
    logging.enable_progress_bar()
    (hub.disable_progress_bars if hidden else hub.enable_progress_bars)()
    try:
        load(folders["clip"], device="cpu")
        assert "Loading" not in capfd.readouterr().err
        assert (logging.is_progress_bar_enabled(), hub.are_progress_bars_disabled()) == (True, hidden)
    finally:
        (logging.enable_progress_bar if before[0] else logging.disable_progress_bar)()
        (hub.disable_progress_bars if before[1] else hub.enable_progress_bars)()


def test_every_family_is_tried() -> None:
    assert set(CONFIGS) == set(FAMILIES)
