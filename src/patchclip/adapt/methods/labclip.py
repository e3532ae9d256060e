"""A linear map of the text embeddings that binds attributes to their objects."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.embeddings.linear_map import LinearMap
from patchclip.errors import ConfigError, DataError


@dataclass(frozen=True)
class LabCLIP:
    """Learns a matrix A for text embeddings that tells true captions from ones with their words swapped.

    score = <x, A t> / |A t|; L = (CE(s X [AT; AN]^t, diagonal) + CE(s AT X^t, diagonal)) / 2 with b true and
    b false captions for b images, s = exp(u) learnt beside A; A = I and u = 0 at first

    Source: Koishigarina, Uselis and Oh, "CLIP Behaves like a Bag-of-Words Model Cross-modally but not
    Uni-modally", arXiv 2502.03566, section 5; alignment/learning_alignment.py and coco_alignment.py of the
    released code (as its fork jayn2u/CLIP-not-BoW-unimodally has it), whose defaults for COCO these are.
    Differs: a pair without a false caption must be left out here; the released code shuffles words, and a
    caption that comes out as it was is its own negative there. As there, the validation loss stops nothing
    and the weights are those after the last epoch.

    Args:
        epochs: passes over the pairs, >= 1; 50 for CLEVR there.
        batch_size: pairs a step, >= 1; 128 for CLEVR there. The last batch of an epoch may be smaller.
        learning_rate: of Adam, > 0; 0.01 for CLEVR there.
        log_scale: u at first. Small sets leave it near there: its steps are about the learning rate.

    Raises:
        ConfigError: an option outside its range.
    """

    epochs: int = 10
    batch_size: int = 1024
    learning_rate: float = 1e-3
    log_scale: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.learning_rate < float("inf"):
            raise ConfigError(
                f"epochs={self.epochs}, batch_size={self.batch_size} and learning_rate={self.learning_rate} "
                "must be positive: A is learnt in steps of Adam"
            )

    def fit(
        self,
        image: Float[Tensor, "n e"],
        text: Float[Tensor, "n e"],
        negative: Float[Tensor, "n e"],
        generator: torch.Generator,
    ) -> LinearMap:
        """Learns A; the images stay as they are, so that an index of them does, too.

        Args:
            image: unit-length embeddings.
            text: of the true caption of each.
            negative: of the false caption of each.
            generator: of the order of the pairs.

        Returns:
            The map: its `apply` gives A t, not of unit length.

        Raises:
            DataError: no pair, other shapes, or embeddings that are not finite.
        """
        rows = [
            each.detach().to(torch.promote_types(each.dtype, torch.float32))
            for each in (image, text, negative)
        ]
        _check(*rows)
        weight = nn.Parameter(torch.eye(rows[1].shape[1]).to(rows[1]))
        log_scale = nn.Parameter(rows[1].new_tensor(self.log_scale))
        optimiser = torch.optim.Adam([weight, log_scale], lr=self.learning_rate)
        with torch.enable_grad():
            for _ in range(self.epochs):
                order = torch.randperm(len(image), generator=generator, device=generator.device)
                for places in order.to(image.device).split(self.batch_size):
                    x, t, false = (each[places] for each in rows)
                    optimiser.zero_grad()
                    binding_loss(x, t @ weight.T, false @ weight.T, log_scale.exp()).backward()
                    optimiser.step()
        return LinearMap(weight.detach())


def binding_loss(
    image: Float[Tensor, "b e"], text: Float[Tensor, "b e"], negative: Float[Tensor, "b e"], scale: Tensor
) -> Tensor:
    """The loss of one batch, 0-d: each image among 2b texts, each true text among b images.

    Args:
        image: unit length.
        text: mapped embeddings of the true captions, of any length.
        negative: those of the false ones.
        scale: s, what cosines are multiplied by, 0-d.
    """
    logits = scale * image @ F.normalize(torch.cat([text, negative]), dim=-1).T  # b 2b
    targets = torch.arange(len(image), device=image.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits[:, : len(image)].T, targets)) / 2


def _check(image: Tensor, text: Tensor, negative: Tensor) -> None:
    shapes = [tuple(each.shape) for each in (image, text, negative)]
    finite = all(bool(each.isfinite().all()) for each in (image, text, negative))
    if not len(image) or len(set(shapes)) > 1 or not finite:
        raise DataError(
            f"images, captions and false captions of shapes {shapes} must be rows of one shape, at least "
            "one, and finite: leave out pairs without a false caption"
        )
