"""PACL: a text pools the patches of an image that are like it, and is compared with what it pooled."""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.heads._pairwise import pairwise

LOWEST = 1e-4
"""Temperature at which the softmax takes the best patch alone, up to rounding."""


class PACLHead(nn.Module):
    """A residual embedder of patch tokens, trained on frozen towers so that a text finds its patches.

    V = W2 relu(W1 x) + W0 x;  phi_ij = cos(sum_t a_ijt V_it, T_j),  a_ij = softmax_t(cos(V_it, T_j) / tau)

    Source: Mukhoti et al., "Open Vocabulary Semantic Segmentation with Patch Aligned Contrastive Learning",
    CVPR 2023, arXiv 2212.04994, equations 2-3, appendix A.1.
    Differs: the formula as published has no temperature (tau = 1); see docs/heads/pacl.md for why the default
    is lower. That the tokens are read after the tower's final norm is not stated in the paper. No code was
    released; public re-implementations pool an image with its own text before they compare it with all texts,
    so that the answer is in the question.

    Args:
        hidden: width of the hidden layer, >= 1; None: that of the embedding.
        temperature: tau of the softmax over patches, at least 1e-4: a small one takes the best patch, a
            large one the mean.
        block: image-text-patch triples held at one time, >= 1; it decides memory and speed, not the result.

    Raises:
        ConfigError: an argument outside its range.
    """

    def __init__(self, hidden: int | None = None, temperature: float = 0.1, block: int = 1 << 24) -> None:
        super().__init__()
        if hidden is not None and hidden < 1:
            raise ConfigError(f"hidden={hidden} must be at least 1, or null for the width of the embedding")
        if not LOWEST <= temperature < math.inf:
            raise ConfigError(
                f"temperature={temperature} must be at least {LOWEST:g} and finite: 1 as published"
            )
        if block < 1:
            raise ConfigError(f"block={block} must be at least 1: image-text-patch triples held at one time")
        self.hidden, self.temperature, self.block = hidden, temperature, block
        self.inner: nn.Linear | None = None
        self.outer: nn.Linear | None = None
        self.skip: nn.Linear | None = None

    def build(self, width: int, embedding: int) -> None:
        """Makes the three layers (torch's initialisation of `Linear`, with biases).

        Args:
            width: numbers of a token.
            embedding: numbers of a text embedding.
        """
        hidden = self.hidden or embedding
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, embedding)
        self.skip = nn.Linear(width, embedding)

    def forward(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l e"]:
        """Patch embeddings, not normalised.

        Args:
            tokens: after the tower's final norm and before its projection.

        Raises:
            ConfigError: the head was not built.
        """
        if self.inner is None or self.outer is None or self.skip is None:
            raise ConfigError("the pacl head has no weights: call build(width, embedding), or load a run's")
        tokens = tokens.to(self.skip.weight.dtype)
        embedded: Tensor = self.outer(F.relu(self.inner(tokens))) + self.skip(tokens)
        return embedded

    def compatibility(
        self, patches: Float[Tensor, "b l e"], texts: Float[Tensor, "n e"]
    ) -> Float[Tensor, "b n"]:
        """phi of every image with every text, exactly, without a tensor of b x n x e or b x n x l numbers.

        Args:
            patches: V, as `forward` gives them.
            texts: of any length; their direction counts.

        Returns:
            Cosines in float32 (float64 of float64).
        """
        return pairwise(patches, texts, self.temperature, self.block)
