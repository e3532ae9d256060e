"""Text towers that read captions longer than their context: by more positions, or window by window."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from open_clip import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from patchclip import spec
from patchclip.contracts import LongContext
from patchclip.errors import ConfigError, TowerError
from patchclip.models.architectures import Architecture
from patchclip.models.text import context_length, encode_text, pooling_of, text_tower, unpadded
from patchclip.models.towers import ClipEncoder
from patchclip.models.words import Cut, Cutter, cutter

__all__ = ["LongEncoder", "WindowTokenizer", "hold_positions", "stretched", "with_context"]

NO_WINDOW = -1
"""Number of tokens of a window that a text does not have."""

SEVERAL = 4
"""Contexts of a text that no single window holds: what a method does with it is tried."""


def with_context(encoder: ClipEncoder, context: str | LongContext) -> ClipEncoder:
    """An encoder that reads long captions.

    Args:
        encoder: an open_clip model, as `patchclip.load` gives it; with methods that make more positions its
            model changes in place.
        context: a method, or how the command line writes one: "long_clip", "clipmd:stride=70".

    Returns:
        An encoder of the same kind where the method makes more positions, else a `LongEncoder`.

    Raises:
        ConfigError: an unknown method, or an option that it refuses.
        TowerError: a model that the method cannot work with.
    """
    method: LongContext = spec.build("context", context) if isinstance(context, str) else context
    if not isinstance(encoder.model, CLIP | CustomTextCLIP):
        raise TowerError(
            f"{encoder.name}: longer captions are read by open_clip's CLIP and CustomTextCLIP, got "
            f"{type(encoder.model).__name__}: load the same weights through open_clip (patchclip list models)"
        )
    found = copy.copy(encoder)
    found.architecture = stretched(encoder.architecture, method)
    found.tokenizer = found.architecture.tokenizer
    room = max(1, (context_length(found.model) or 1) - 2)
    return LongEncoder(found, method) if len(method.cut(SEVERAL * room, room)) > 1 else found


def stretched(architecture: Architecture, method: LongContext) -> Architecture:
    """The architecture with the position embeddings that a method makes; the same one where it makes none.

    The model is changed in place: position embeddings, causal mask and context length; it stays a plain
    open_clip model, and `write_config` and its weights make a folder that open_clip reads.

    Raises:
        TowerError: a text tower in which more positions mean something else, see `check_stretchable`.
        ConfigError: options that do not fit the tower, or fewer positions than it has.
    """
    model = architecture.model
    tower = text_tower(model)
    old = getattr(tower, "positional_embedding", torch.zeros(SEVERAL**4, 1)).detach()
    table = method.positions(old)
    if table.shape == old.shape and torch.equal(table, old):
        return architecture
    check_stretchable(model)
    length = len(table)
    if length < len(old):
        raise ConfigError(f"{method} makes {length} positions of {len(old)}: there must not be fewer")
    trained = tower.positional_embedding.requires_grad
    tower.positional_embedding = nn.Parameter(table.clone(), requires_grad=trained)
    tower.attn_mask = tower.attn_mask.new_full((length, length), -torch.inf).triu_(1)
    model.context_length = tower.context_length = length
    if isinstance(tower, TextTransformer):
        tower.num_pos = length
    config = copy.deepcopy(architecture.model_cfg)
    config["text_cfg"]["context_length"] = length
    tokenizer: Any = copy.copy(architecture.tokenizer)
    tokenizer.context_length = length
    return replace(architecture, model_cfg=config, tokenizer=tokenizer)


def check_stretchable(model: Any) -> None:
    """Raises TowerError unless a text in more positions is the same text: a causal tower, read at its end.

    SigLIP's and CLIPA's own towers look both ways and read their output at the last position, CoCa's at a
    class token behind the padding: all of these move.
    """
    tower = text_tower(model)
    if not isinstance(tower, CLIP | TextTransformer):
        reason = f"{type(tower).__name__} keeps its positions elsewhere"
    elif getattr(tower, "cls_emb", None) is not None:
        reason = "its class token comes behind the padding"
    elif tower.attn_mask is None:
        reason = "its tokens attend to the padding"
    elif pooling_of(tower)[0] not in ("argmax", "eos"):
        reason = f"its output is read at position {pooling_of(tower)[0]!r}, not at the end token"
    else:
        return
    raise TowerError(
        f"the positions of this text tower cannot be stretched: {reason}. Use a causal tower such as "
        "ViT-B-16's, or a method that reads windows (clipmd)"
    )


def hold_positions(model: nn.Module, method: LongContext, optimizer: torch.optim.Optimizer) -> None:
    """Keeps the first `method.kept` position embeddings as they are, bit for bit, in every optimiser step.

    Their gradients are zero, so that they count in no norm; and since AdamW decays weights without a
    gradient too, they are written back after each step. Methods without `kept` hold none.

    Args:
        model: whose text tower `stretched` has changed, on its device, whole or in shares (FSDP2; there the
            gradients still count in the norm).
        method: the one it was stretched with.
        optimizer: of its parameters.
    """
    rows = int(getattr(method, "kept", 0))
    tower = text_tower(model)
    if not rows or not tower.positional_embedding.requires_grad:
        return
    kept = own_rows(tower.positional_embedding, rows).clone()

    def keep(*_: Any) -> None:
        kept.copy_(own_rows(tower.positional_embedding, rows))

    def restore(*_: Any) -> None:
        own_rows(tower.positional_embedding, rows).copy_(kept)

    def silence(table: Tensor) -> None:
        if table.grad is not None:
            table.grad[:rows].zero_()

    optimizer.register_step_pre_hook(keep)
    optimizer.register_step_post_hook(restore)
    if not isinstance(tower.positional_embedding, DTensor):
        tower.positional_embedding.register_post_accumulate_grad_hook(silence)


def own_rows(table: Tensor, rows: int) -> Tensor:
    """The part of the first `rows` of a table that this process holds, without a gradient; a view."""
    if not isinstance(table, DTensor):
        return table.detach()[:rows]
    share = -(-len(table) // table.device_mesh.size())
    return table.to_local().detach()[: max(0, rows - table.device_mesh.get_local_rank() * share)]


class WindowTokenizer:
    """Turns texts into rows [n, w * (1 + s)]: w windows, each its number of tokens and a row of the tower.

    A window is a caption of its own, with start and end token and padding. Texts with fewer windows than the
    longest have windows of NO_WINDOW tokens. It cuts nothing off, so it has no `context_length`.

    Args:
        tokenizer: open_clip's `SimpleTokenizer`, `HFTokenizer` or `SigLipTokenizer`.
        method: says where windows are.

    Raises:
        ConfigError: a tokenizer that cannot be taken apart, or windows that the method refuses to cut.
    """

    def __init__(self, tokenizer: Any, method: LongContext) -> None:
        self.cutter: Cutter = cutter(tokenizer)
        self.method = method
        (empty,) = self.cutter.cut([""])
        self.room = self.cutter.context_length - len(empty.before) - len(empty.after)
        method.cut(SEVERAL * self.room, self.room)  # refuses what it cannot cut

    def __call__(self, texts: str | Sequence[str]) -> Int64[Tensor, "n ws"]:
        """Rows of token ids."""
        found = [self.windows(cut) for cut in self.cutter.cut([texts] if isinstance(texts, str) else texts)]
        width = 1 + self.cutter.context_length
        rows = torch.full((len(found), max(map(len, found), default=1), width), self.cutter.pad)
        for row, windows in zip(rows, found, strict=True):
            row[len(windows) :, 0] = NO_WINDOW
            for window, (count, ids) in zip(row, windows, strict=False):
                window[0] = count
                window[1 : 1 + len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return rows.flatten(1)

    def windows(self, cut: Cut) -> list[tuple[int, list[int]]]:
        """Tokens and the whole row of ids, not padded, of each window of a caption."""
        ids = [id for word in cut.words.tokens for id in word]
        return [
            (end - start, self.cutter.finished([*cut.before, *ids[start:end], *cut.after]))
            for start, end in self.method.cut(len(ids), self.room)
        ]


class LongEncoder(ClipEncoder):
    """An encoder that reads a text window by window and pools their embeddings, before they are normalised.

    Args:
        encoder: reads one window.
        method: cuts and pools; a text of one window is not pooled.
    """

    def __init__(self, encoder: ClipEncoder, method: LongContext) -> None:
        parts = (encoder.precision, encoder.preprocess, encoder.head, encoder.similarity)
        super().__init__(encoder.architecture, *parts)
        self.name = encoder.name
        self.context = method
        self.windows = WindowTokenizer(encoder.architecture.tokenizer, method)
        self.tokenizer = self.windows

    @torch.no_grad()
    def encode_text(self, tokens: Int64[Tensor, "n ws"]) -> Float[Tensor, "n e"]:
        """Text embeddings, float32, of rows from `tokenizer`: of unit length, or rows of the similarity.

        Windows of all texts are read together, as many at a time as there are texts.
        """
        width = 1 + self.windows.cutter.context_length
        if tokens.shape[1] % width:
            raise ConfigError(
                f"rows of {tokens.shape[1]} tokens are not windows of {width}: make them with this encoder's "
                "own tokenizer"
            )
        table = tokens.unflatten(1, (-1, width))  # n w 1+s
        there = table[..., 0] != NO_WINDOW  # n w
        rows, lengths = table[there][:, 1:], table[there][:, 0]
        with self.autocast():
            read = [
                encode_text(self.model, unpadded(self.model, part).to(self.device)).float()
                for part in rows.split(max(1, len(tokens)))
            ]
        counts = there.sum(dim=1).tolist()
        parts = zip(torch.cat(read).split(counts), lengths.to(self.device).split(counts), strict=True)
        pooled = [part[0] if len(part) == 1 else self.context.pool(part, count) for part, count in parts]
        return self.similarity.text(torch.stack(pooled))
