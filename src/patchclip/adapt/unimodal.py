"""Whether one modality alone knows which attribute belongs to which object."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import DataError

BATCH = 32


def unimodal_probe(
    train: tuple[Float[Tensor, "n e"], Int64[Tensor, " n"]],
    test: tuple[Float[Tensor, "m e"], Int64[Tensor, " m"]],
    generator: torch.Generator,
    epochs: int = 100,
    learning_rate: float = 0.1,
) -> float:
    """Share of right answers of a linear layer that reads an object's attribute from one modality alone.

    High on images and on texts, with chance between them: the binding is there, and lost in the cosine.

    Source: Koishigarina, Uselis and Oh, arXiv 2502.03566, section 4; probing/clevr_probing_utils.py of the
        released code: SGD, batches of 32, 100 epochs at 0.1.
    Differs: the released layer starts from torch's random weights, this one from zeros.

    Args:
        train: embeddings of one modality with one object in common, as the towers give them (rows of unit
            length need a larger learning rate), and the attribute of that object, from 0 on.
        test: others.
        generator: of the order.
        epochs: passes, >= 1.
        learning_rate: of SGD, > 0.

    Raises:
        DataError: no example to learn from or to test on.
    """
    (rows, labels), (others, answers) = train, test
    if not len(rows) or not len(others):
        raise DataError(f"{len(rows)} examples to learn from and {len(others)} to test: both must be some")
    rows, classes = rows.detach().float(), 1 + int(torch.cat([labels, answers]).max())
    weight = rows.new_zeros(classes, rows.shape[1]).requires_grad_()
    bias = rows.new_zeros(classes).requires_grad_()
    optimiser = torch.optim.SGD([weight, bias], lr=learning_rate)
    with torch.enable_grad():
        for _ in range(epochs):
            order = torch.randperm(len(rows), generator=generator, device=generator.device)
            for places in order.to(rows.device).split(BATCH):
                optimiser.zero_grad()
                F.cross_entropy(F.linear(rows[places], weight, bias), labels[places]).backward()
                optimiser.step()
    with torch.no_grad():
        return float((F.linear(others.float(), weight, bias).argmax(1) == answers).double().mean())
