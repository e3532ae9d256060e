"""From scores on cells to a label map: which names take part, refinement, pixels, background."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from patchclip.dense import _pixels
from patchclip.dense._upsample import Layer, Reader, Tile, every_pixel
from patchclip.dense._windows import Plan
from patchclip.dense.inference import Inference
from patchclip.dense.labels import Vocabulary

REFINED = 64
"""Names that are refined at most: those that win the most pixels."""


@dataclass(frozen=True)
class Labeller:
    """Makes label maps of scores.

    Args:
        vocabulary: labels and names.
        inference: background rule and labels kept.
        scale: what cosines are multiplied by before the softmax.
        refine: scores [n, h, w] and an image [3, h, w] in [0, 1] -> scores [n, h, w]; None for none.
    """

    vocabulary: Vocabulary
    inference: Inference
    scale: float
    refine: Any = None

    def __call__(
        self, scores: Float[Tensor, "m gh gw"], plan: Plan, image: Image.Image
    ) -> Int64[np.ndarray, "h w"]:
        """The label of every pixel of the image, 0 for none.

        Args:
            scores: of all names.
            plan: of the image.
            image: RGB, in its own size.
        """
        kept = self.kept(scores)
        some = scores if len(kept) == len(scores) else scores[kept]
        layers = [Layer(some, kept, plan.size, plan.sizes.patch, plan.sizes.step)]
        if self.refine is not None:
            layers = self.refined(layers[0], image)
        reader = Reader(layers, (image.height, image.width), self.scale)
        found = np.empty((image.height, image.width), np.int64)
        for tile in reader.tiles():
            found[tile.top : tile.bottom, tile.left : tile.right] = self.labels(reader, tile).cpu().numpy()
        return found

    def kept(self, scores: Float[Tensor, "m gh gw"]) -> Int64[Tensor, "k"]:
        """Names that take part: all, or those of the labels with the best cells, and of the background."""
        owner, most = self.vocabulary.owner, self.inference.keep_labels
        if most is None or most >= len(self.vocabulary.labels):
            return torch.arange(len(owner), device=owner.device)
        best = self.vocabulary.of_labels(scores.flatten(1)).amax(dim=1)
        chosen = torch.zeros(len(best) + 1, dtype=torch.bool, device=owner.device)
        chosen[0] = True
        chosen[best.topk(most).indices + 1] = True
        return chosen[owner].nonzero()[:, 0]

    def refined(self, layer: Layer, image: Image.Image) -> list[Layer]:
        """The names that win most pixels, refined at the smaller of both sizes; the others as they are."""
        height, width = min(layer.size[0], image.height), min(layer.size[1], image.width)
        reader = Reader([layer], (height, width), self.scale)
        pixels = torch.zeros(len(self.vocabulary.owner), dtype=torch.int64, device=layer.names.device)
        for tile in reader.tiles():
            pixels += torch.bincount(reader.read(tile).name.flatten(), minlength=len(pixels))
        winners = pixels.topk(min(REFINED, len(pixels))).indices
        present = torch.isin(layer.names, winners[pixels[winners] > 0])
        some, others = layer.only(present), layer.only(~present)
        small = _pixels.resized(image, (height, width), {}).to(layer.scores.device)
        fine = self.refine(every_pixel(some, (height, width)), small)
        layers = [Layer(fine, some.names, (height, width), 1, 1), others]
        return layers if len(others.names) else layers[:1]

    def labels(self, reader: Reader, tile: Tile) -> Int64[Tensor, "r w"]:
        """Of a tile: the owner of the best name, 0 where a rule finds the background."""
        threshold, entropy = self.inference.threshold, self.inference.entropy
        best = reader.read(tile, threshold is not None, entropy is not None)
        found = self.vocabulary.owner[best.name]
        if threshold is not None:
            found = found.masked_fill(best.confidence < threshold, 0)
        if entropy is not None:
            found = found.masked_fill(best.entropy > entropy, 0)
        return found
