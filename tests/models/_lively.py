"""A tiny model whose text embeddings differ from word to word and place to place."""

from typing import Any

import torch

from patchclip.models.architectures import Architecture, create
from tests.models._tiny import NATIVE, TEXT


def lively(**text: Any) -> Architecture:
    """Random weights of unit variance in words and positions; `text` goes into text_cfg, in eval mode."""
    custom = text.pop("custom", False)
    config = {"embed_dim": 32, "vision_cfg": NATIVE, "text_cfg": {**TEXT, "layers": 2, **text}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = create("ViT-Ti-16", overrides={**config, "custom_text": custom})
        tower = getattr(made.model, "text", made.model)
        torch.nn.init.normal_(tower.token_embedding.weight)
        torch.nn.init.normal_(tower.positional_embedding)
    made.model.eval()
    return made
