"""What does closing the gap by a shift change? `Center` is fitted on 600 training pairs, of unit length:
images are moved by the distance of the two means, then brought to unit length again. On held-out pairs: the
distance of the centroids, the held-out accuracy of a plane between the modalities, by how much the cosine of
pairs is above that of wrong pairs, and recall@5 both ways, before the shift (without) and after it (with).
"""

import torch
import torch.nn.functional as F

from experiments._frame import Measure, Setting, interleaved
from experiments._raw_rows import raw_rows, recall

TITLE = "Modality gap, closed by a shift"
PAGE = "geometry/modality_gap.md"
MEASURES = {
    "centroid_distance": Measure("distance of the centroids", better="lower"),
    "separability": Measure("accuracy of a plane between the modalities", better="lower"),
    "relative_alignment": Measure("cosine of pairs above wrong pairs"),
    "recall": Measure("recall@5 both ways"),
}


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """Each measure without and with the shift."""
    from patchclip.embeddings.maps.center import Center
    from patchclip.geometry.analyses.modality_gap import ModalityGap

    rows = raw_rows(setting)
    image, text, held_image, held_text = (
        F.normalize(each, dim=-1) for each in (rows.image, rows.text, rows.held_image, rows.held_text)
    )
    moved = Center().fit(image, text).apply(held_image)
    figures = [ModalityGap()(each, held_text) for each in (held_image, moved)]
    found = {name: (figures[0][name], figures[1][name]) for name in MEASURES if name != "recall"}
    hits = [float(recall(each, held_text).mean()) for each in (held_image, moved)]
    return found | {"recall": (hits[0], hits[1])}


def cost(setting: Setting) -> tuple[float, float]:
    """Scores of 2000 images with 2000 texts of 192 numbers, without the shift and with it, fit included."""
    from patchclip.embeddings.maps.center import Center

    count = 100 if setting.quick else 2000
    image, text = torch.randn(2, count, 192, generator=setting.generator())
    image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)

    def shifted() -> torch.Tensor:
        return F.normalize(Center().fit(image, text).apply(image), dim=-1) @ text.T

    return interleaved(lambda: image @ text.T, shifted, 1 if setting.quick else 5)
