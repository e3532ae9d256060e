"""Tiny random models of transformers, in folders as its save_pretrained writes them."""

from pathlib import Path
from typing import Any

import torch

TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TOWER, "image_size": 32, "patch_size": 8}
WORDS = ("a", "red", "dog", "two", "houses", "and", "tree", "cat", "house", "of", "the", "photo")
SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
PAD, START, END = 1, 0, 2
BERT = {**TOWER, "max_position_embeddings": 100, "vocab_size": 20, "pad_token_id": PAD}
CAUSAL = {**TOWER, "max_position_embeddings": 12, "vocab_size": 20}
CONFIGS: dict[str, dict[str, Any]] = {
    "clip": {"projection_dim": 24, "text_config": {**CAUSAL, "eos_token_id": END}},
    "siglip": {"text_config": {**CAUSAL, "projection_size": 24, "hidden_size": 24}},
    "metaclip_2": {"projection_dim": 24, "text_config": {**CAUSAL, "eos_token_id": END}},
    "altclip": {"projection_dim": 24, "text_config": {**BERT, "project_dim": 20}},
    "chinese_clip": {"projection_dim": 24, "text_config": BERT},
}
LENGTHS = {"clip": 12, "siglip": 12, "metaclip_2": 12, "altclip": 77, "chinese_clip": 52}
"""Tokens of a text by model type."""


def write(kind: str, folder: Path) -> Path:
    """Writes a model, its image processor and a tokenizer of whole words; weights follow from the kind."""
    from transformers import AutoConfig, AutoModel, CLIPImageProcessor, SiglipImageProcessor

    vision = {**VISION, "hidden_size": 24} if kind == "siglip" else VISION
    config = AutoConfig.for_model(kind, vision_config=vision, **CONFIGS[kind])
    with torch.random.fork_rng():
        torch.manual_seed(len(kind))
        model = AutoModel.from_config(config)
        for parameter in model.parameters():  # the random start is too flat to tell images apart
            torch.nn.init.normal_(parameter, std=0.2)
        torch.nn.init.constant_(model.logit_scale, 3.0)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    if kind == "siglip":
        SiglipImageProcessor(size=size).save_pretrained(folder)
    else:
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    """Every known word is one token, between a start and an end token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = [*("<s>", "<pad>", "</s>", "<unk>"), *WORDS]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", START), ("</s>", END)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=100, **SPECIAL)
