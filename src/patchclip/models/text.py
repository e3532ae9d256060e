"""Text towers on captions shorter than their context."""

from typing import Any

from open_clip import CLIP
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from patchclip.errors import TowerError


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """Text embeddings [b, e], not normalised, of rows as long as the tower's context or shorter.

    A shorter row takes the first position embeddings and the corner of the causal mask. The embedding and its
    gradients are those of the row padded to the context, up to rounding: in a causal tower that reads its
    output at the end token no token sees the padding behind it, and Hugging Face towers mask it.

    Args:
        model: an open_clip model.
        tokens: int64 [b, s], s at most the context length.

    Raises:
        TowerError: a tower in which a shorter row means something else, see `check_shorter`.
    """
    if tokens.shape[1] == context_length(model):
        return model.encode_text(tokens)  # type: ignore[no-any-return]
    check_shorter(model, tokens.shape[1])
    tower = text_tower(model)
    if isinstance(tower, HFTextEncoder):
        return model.encode_text(tokens)  # type: ignore[no-any-return]
    kind = tower.transformer.get_cast_dtype()
    s = tokens.shape[1]
    x = tower.token_embedding(tokens).to(kind) + tower.positional_embedding[:s].to(kind)  # b s d
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:s, :s]))
    pooling, end = pooling_of(tower)
    pooled = text_global_pool(x, tokens, pooling, eos_token_id=end)  # b d
    projection = tower.text_projection
    if projection is None:
        return pooled  # type: ignore[no-any-return]
    return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection


def unpadded(model: Any, tokens: Tensor) -> Tensor:
    """The rows without the columns of padding that all of them end with, where that changes no embedding.

    Args:
        model: an open_clip model.
        tokens: int64 [b, s], padded with 0 as open_clip's own tokenizer does.

    Returns:
        int64 [b, s'] with s' <= s; the rows as they are for towers in which padding takes part, for Hugging
        Face towers, and for rows that are not of the context's length.
    """
    tower = text_tower(model)
    known = isinstance(tower, CLIP | TextTransformer) and tokens.shape[1] == context_length(model)
    if not known or tower.attn_mask is None or getattr(tower, "cls_emb", None) is not None:
        return tokens
    if pooling_of(tower)[0] not in ("argmax", "eos"):
        return tokens
    used = (tokens != 0).any(0).nonzero()
    return tokens[:, : int(used[-1]) + 1] if len(used) else tokens


def check_shorter(model: Any, length: int) -> None:
    """Raises TowerError unless rows of `length` tokens mean the same to the tower as padded ones.

    SigLIP's and CLIPA's own towers look both ways and read their output at the last position: padding takes
    part, and the last position of a shorter row has another embedding, so that evaluation at full length
    would read a position that was never trained. CoCa's class token comes behind the padding, likewise.
    """
    context = context_length(model)
    if length == context:
        return
    tower = text_tower(model)
    if isinstance(tower, HFTextEncoder):
        return
    if context is not None and length > context:
        raise TowerError(f"captions of {length} tokens do not fit the text tower's context of {context}")
    if not isinstance(tower, CLIP | TextTransformer):
        reason = f"{type(model).__name__} is not known to take them"
    elif getattr(tower, "cls_emb", None) is not None:
        reason = "its class token comes behind the padding"
    elif tower.attn_mask is None:
        reason = "its tokens attend to the padding"
    elif pooling_of(tower)[0] not in ("argmax", "eos", "first"):
        reason = f"its output is read at position {pooling_of(tower)[0]!r}, not at the end token"
    else:
        return
    raise TowerError(
        f"captions of {length} tokens mean something else to this text tower than ones padded to {context}: "
        f"{reason}. Leave data.text_tokens=null, shorten the context itself (model.context_length={length}, "
        "also in evaluation), or use a causal tower such as ViT-B-16's"
    )


def context_length(model: Any) -> int | None:
    """Tokens of a full row; None where the tower does not say."""
    found = getattr(model, "context_length", None)
    return None if found is None else int(found)


def text_tower(model: Any) -> Any:
    """The module that encodes text: the model itself where open_clip keeps it there."""
    return getattr(model, "text", model)


def pooling_of(tower: Any) -> tuple[str, int | None]:
    """How a causal tower is read out, and the end token's id."""
    if isinstance(tower, CLIP):
        return tower.text_pool_type, getattr(tower, "text_eos_id", None)
    return tower.pool_type, getattr(tower, "eos_id", None)
