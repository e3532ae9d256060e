"""Builds what trains a head on frozen towers, and holds it against the rest of the configuration."""

import contextlib
from collections.abc import Callable

import torch
from torch import nn

from patchclip.config import TrainConfig, chooses, method
from patchclip.data.features import Filling, open_features
from patchclip.data.pairs import PairSource
from patchclip.engine.align import FrozenTowers
from patchclip.engine.precision import choose_precision
from patchclip.errors import ConfigError
from patchclip.evaluation._key import model_key
from patchclip.models.architectures import Architecture
from patchclip.models.heads import Head, make_head
from patchclip.models.image_tower import image_tower
from patchclip.models.towers import ClipEncoder

FROZEN = "the towers are frozen, and a head reads every patch of whole images"
"""Why settings that change what the image tower sees or learns do not go with a head."""


def check_head(config: TrainConfig, loss: nn.Module) -> None:
    """Holds a loss against the head, and a head against the settings of the loop.

    Raises:
        ConfigError: a loss of pairs without a head or the other way round, or a setting that a head's
            training cannot follow.
    """
    pairwise = bool(getattr(loss, "pairwise", False))
    if not chooses(config, "head"):
        if pairwise:
            raise ConfigError(
                f"loss.name={config.loss['name']} compares patches with texts: it needs a head "
                "(`patchclip align`, or head.name=pacl)"
            )
        if config.data.features is not None:
            raise ConfigError(
                f"data.features={config.data.features!r} keeps frozen patches, which only a head trains on: "
                "name one (head.name=pacl) or unset it"
            )
        return
    if not pairwise:
        raise ConfigError(
            f"loss.name={config.loss['name']} compares images with texts, but a head gives patches: "
            "set loss.name=pacl"
        )
    loop = config.train
    wrong = {
        f"masking.name={config.masking['name']}": config.masking["name"] != "none",
        f"train.views={loop.views}": loop.views != 1,
        "train.stages": bool(loop.stages),
        "train.grad_checkpointing=true": loop.grad_checkpointing,
        "train.compile=true": loop.compile,
    }
    for setting, given in wrong.items():
        if given:
            raise ConfigError(f"{setting} does not go with head.name={config.head['name']}: {FROZEN}")
    if config.data.features is not None and config.data.augment != "none":
        raise ConfigError(
            f"data.augment={config.data.augment} would need other patches in every epoch, but data.features "
            "keeps one reading of each image: set data.augment=none"
        )


def build_head(config: TrainConfig, architecture: Architecture, device: torch.device) -> Head | None:
    """The head that `head.name` chooses, with its model frozen and in eval mode; None without one.

    Raises:
        TowerError: a tower that cannot be taken apart.
    """
    if not chooses(config, "head"):
        return None
    _, name, options = method(config, "head")
    model = architecture.model.requires_grad_(False).eval()
    tower = image_tower(model.visual)
    size = architecture.image_size
    with torch.no_grad():
        tokens, _ = tower.embed(torch.zeros(1, 3, size, size, device=device))
    head = make_head(name, options, tokens.shape[-1], int(architecture.model_cfg["embed_dim"]))
    head.module.to(device)
    return head


def frozen_towers(
    architecture: Architecture,
    autocast: Callable[[], contextlib.AbstractContextManager[object]],
    size: int | None,
) -> FrozenTowers:
    """The frozen model as a head's training reads it; see `FrozenTowers`."""
    return FrozenTowers(architecture.model, image_tower(architecture.model.visual), autocast, size)


def kept_features(
    config: TrainConfig,
    source: PairSource,
    architecture: Architecture,
    towers: FrozenTowers,
    filling: Filling,
) -> PairSource:
    """The source with its images replaced by their frozen patches, where `data.features` names a folder.

    What is not in the folder yet is encoded first, each image once.

    Raises:
        ConfigError: the folder holds patches of another model.
        DataError: it holds those of other images, or is damaged.
    """
    if config.data.features is None:
        return source
    device = next(architecture.model.parameters()).device
    encoder = ClipEncoder(architecture, choose_precision(config.train.precision, device))
    fingerprint = f"patches of {model_key(encoder)} after the final norm"
    return open_features(
        source,
        config.data.features,
        fingerprint,
        lambda pixels: towers.patches(pixels.to(device, non_blocking=True)),
        encoder.preprocess,
        filling,
    )
