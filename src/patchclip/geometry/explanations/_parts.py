"""The summands of image embeddings, and what is read off them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patchclip.errors import ConfigError, DataError


@dataclass(frozen=True)
class Parts:
    """Image embeddings, not of unit length, as sums: start + sum over all of attention + mlp + bias.

    Letters: k layers kept, t tokens read, m heads; t or m is 1 where their sum was kept.

    Args:
        attention: what each head of each layer adds by each token that it reads.
        mlp: what the MLP of each layer adds.
        start: what the tokens in front of the first kept layer add.
        bias: what does not depend on one summand: biases behind heads, of the final norm and the projection,
            and the MLP of an attention pool.
        first: number of the first kept layer, counted from 0.
        prefix: tokens before the patches.
        grid: rows and columns of patches.
    """

    attention: Float[Tensor, "b k t m e"]
    mlp: Float[Tensor, "b k e"]
    start: Float[Tensor, "b e"]
    bias: Float[Tensor, "b e"]
    first: int
    prefix: int
    grid: tuple[int, int]

    def total(self) -> Float[Tensor, "b e"]:
        """The image embeddings."""
        return self.attention.sum(dim=(1, 2, 3)) + self.mlp.sum(dim=1) + self.start + self.bias

    def by_head(self) -> Float[Tensor, "b k m e"]:
        """What each head adds in all."""
        return self.attention.sum(dim=2)

    def heat(
        self, texts: Float[Tensor, "n e"], layers: Sequence[int] | None = None
    ) -> Float[Tensor, "b n gh gw"]:
        """What each patch adds to the product of the image embedding with each text, by attention.

        h_i = sum_{l,h} attention_{l,i,h} . text

        Args:
            texts: text embeddings.
            layers: numbers of the layers that count; None for all that were kept.

        Raises:
            ConfigError: a layer that was not kept.
            DataError: the sum over tokens was kept, or texts of another width.
        """
        if self.attention.shape[2] != self.prefix + self.grid[0] * self.grid[1]:
            raise DataError(
                "heat needs each token's part, but their sum was kept: decompose with tokens=True"
            )
        if texts.ndim != 2 or texts.shape[1] != self.attention.shape[-1]:
            raise DataError(
                f"texts of shape {tuple(texts.shape)} must be [n, {self.attention.shape[-1]}]: embeddings of "
                "the same model"
            )
        chosen = slice(None) if layers is None else [self._place(layer) for layer in layers]
        patches = self.attention[:, chosen, self.prefix :].sum(dim=(1, 3))
        return (patches @ texts.to(patches).T).transpose(1, 2).unflatten(2, self.grid)

    def ablated(
        self,
        layers: Iterable[int] = (),
        heads: Iterable[tuple[int, int]] = (),
        mlps: Iterable[int] = (),
        prefix: bool = False,
        means: "Parts | None" = None,
    ) -> Float[Tensor, "b e"]:
        """Image embeddings where some summands are replaced by their mean over images.

        z - a + mean a,  a = the sum of these summands, each once

        Args:
            layers: whose attention is replaced.
            heads: (layer, head) that are replaced.
            mlps: layers whose MLP is replaced.
            prefix: replace what all layers read of class token and registers.
            means: summands of other images that the means are taken of; None for these.

        Raises:
            ConfigError: a layer that was not kept, a head that is not there.
            DataError: tokens or heads whose sum alone was kept, or `means` of another shape.
        """
        means = self if means is None else means
        if means.attention.shape[1:] != self.attention.shape[1:]:
            raise DataError(
                f"means of shape {tuple(means.attention.shape)} must be decomposed as these parts are: "
                f"{tuple(self.attention.shape)} but for the number of images"
            )
        mask, rows = self._mask(layers, heads, prefix), [self._place(layer) for layer in set(mlps)]
        return self.total() - self._sum(mask, rows) + means._sum(mask, rows).mean(dim=0)

    def _sum(self, mask: Bool[Tensor, "k t m"], rows: Sequence[int]) -> Float[Tensor, "b e"]:
        chosen = torch.einsum("bktme,ktm->be", self.attention, mask.to(self.attention))
        return chosen + self.mlp[:, list(rows)].sum(dim=1)

    def _mask(
        self, layers: Iterable[int], heads: Iterable[tuple[int, int]], prefix: bool
    ) -> Bool[Tensor, "k t m"]:
        """The attention summands that are meant."""
        _, _, t, m, _ = self.attention.shape
        mask = torch.zeros(self.attention.shape[1:4], dtype=torch.bool, device=self.attention.device)
        for layer in layers:
            mask[self._place(layer)] = True
        for layer, head in heads:
            if m == 1 or not 0 <= head < m:
                raise (DataError if m == 1 else ConfigError)(
                    f"head {head} must be in [0, {m}), of parts with each head apart (heads=True)"
                )
            mask[self._place(layer), :, head] = True
        if prefix:
            if t == 1:
                raise DataError("prefix=True needs each token's part: decompose with tokens=True")
            mask[:, : self.prefix] = True
        return mask

    def _place(self, layer: int) -> int:
        last = self.first + self.attention.shape[1]
        if not self.first <= layer < last:
            raise ConfigError(f"layer {layer} must be in [{self.first}, {last}): these layers were kept")
        return layer - self.first


def joined(parts: Sequence[Parts]) -> Parts:
    """The same of all images, of parts that were decomposed alike."""
    tensors: dict[str, Any] = {
        each.name: torch.cat([getattr(part, each.name) for part in parts])
        for each in fields(Parts)
        if each.name in ("attention", "mlp", "start", "bias")
    }
    return Parts(**tensors, first=parts[0].first, prefix=parts[0].prefix, grid=parts[0].grid)
