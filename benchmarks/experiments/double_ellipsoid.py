"""Is conformity, the mean cosine with all others, what the paper says it is? On the raw embeddings of 600
training pairs: the mean of the table of all cosines against the paper's estimate, the cosine with the mean
embedding (without), and against the exact form (with), by Pearson's correlation and by the largest
difference. On held-out pairs: recall@5 of the half whose images are most common (without) and of the half
whose images are rarest (with), common ones having more captions that nearly fit; and the loss as the
embeddings lie (without) against the lowest on the curve of shifts of the images, alpha in [-1, 1.5] (with);
a negative alpha adds the mean, which lowers the temperature too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments._frame import Measure, Setting, interleaved
from experiments._raw_rows import raw_rows, recall

TITLE = "Double ellipsoid, conformity"
PAGE = "geometry/double_ellipsoid.md"
MEASURES = {
    "pearson": Measure(
        "correlation with the mean of all cosines: the paper's estimate, the exact form", digits=5
    ),
    "difference": Measure("largest difference from it", better="lower", digits=5),
    "recall": Measure("recall@5 of the common half of the images, of the rare half"),
    "loss": Measure("loss of the pairs: as they lie, at the best shift", better="lower"),
}
ALPHAS = tuple(step / 10 for step in range(-10, 16))
COSTED = 4096


def table_mean(rows: Tensor) -> Tensor:
    """Mean cosine of each row with all, from the whole table."""
    units = F.normalize(rows.double(), dim=-1)
    return (units @ units.T).mean(dim=1)


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """Each measure without and with."""
    from patchclip.embeddings.filtering import kept
    from patchclip.embeddings.scores.conformity import Conformity
    from patchclip.geometry.analyses.double_ellipsoid import conformity, shift_curve

    rows = raw_rows(setting)
    expected, exact = table_mean(rows.image), conformity(rows.image.double())
    estimate = F.normalize(rows.image.double(), dim=-1) @ F.normalize(rows.image.double().mean(0), dim=0)
    found = [float(torch.corrcoef(torch.stack([expected, each]))[0, 1]) for each in (estimate, exact)]
    apart = [float((each - expected).abs().max()) for each in (estimate, exact)]
    halves = []
    for rare in (False, True):
        score = Conformity("image", rare).fit(rows.image, rows.text)
        half = kept(score(rows.held_image, rows.held_text), 0.5)
        halves.append(float(recall(rows.held_image, rows.held_text)[half].mean()))
    losses = shift_curve(rows.held_image, rows.held_text, (0.0, *ALPHAS), rows.encoder.scale)
    return {
        "pearson": (found[0], found[1]),
        "difference": (apart[0], apart[1]),
        "recall": (halves[0], halves[1]),
        "loss": (float(losses[0]), float(losses.min())),
    }


def cost(setting: Setting) -> tuple[float, float]:
    """Conformity of 4096 rows: by the table of all cosines, and by its exact form."""
    from patchclip.geometry.analyses.double_ellipsoid import conformity

    drawn = torch.randn(256 if setting.quick else COSTED, 192, generator=setting.generator())
    return interleaved(lambda: table_mean(drawn), lambda: conformity(drawn), 1 if setting.quick else 3)
