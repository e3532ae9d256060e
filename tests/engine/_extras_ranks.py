"""What each of two ranks does: `python -m tests.engine._extras_ranks`, run by ranks/test_extras.py."""

import torch
from torch import Tensor

from patchclip.engine.extras import WithCompanions
from patchclip.engine.ranks.distributed import GatheredLoss, World, joined
from tests.engine.test_extras import Against

PAIRS, WIDTH = 6, 8


def inputs() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Embeddings of all ranks, with a companion of each text, and the rows of a teacher."""
    drawn = torch.randn(5, PAIRS, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    text = torch.stack([drawn[1], drawn[2]], dim=1)
    return drawn[0], text, {"teacher_image": drawn[3], "teacher_text": drawn[4]}


def loss_and_gradients(world: World) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Terms of all pairs; gradients at this rank's rows, times `world.size`."""
    image, text, teacher = inputs()
    own = slice(world.rank * PAIRS // world.size, (world.rank + 1) * PAIRS // world.size)
    leaves = [rows[own].clone().requires_grad_() for rows in (image, text)]
    extras = {name: rows[own] for name, rows in teacher.items()} | {"teacher_scale": torch.tensor(3.0)}
    generator = torch.Generator().manual_seed(9)
    loss = GatheredLoss(WithCompanions(Against(), ["negative_text"]), world)
    terms = loss(*leaves, torch.tensor(2.0), None, generator=generator, **extras)
    torch.stack([value.double() for value in terms.values()]).sum().backward()
    return terms, [leaf.grad for leaf in leaves if leaf.grad is not None]


def main() -> None:
    """Holds terms and gradients against those of one process with all pairs."""
    expected, whole = loss_and_gradients(World())
    with joined(torch.device("cpu")) as world:
        terms, gradients = loss_and_gradients(world)
        for name, value in expected.items():
            torch.testing.assert_close(terms[name], value)
        for found, all_rows in zip(gradients, whole, strict=True):
            rows = all_rows.view(world.size, -1, *all_rows.shape[1:])[world.rank]
            torch.testing.assert_close(found / world.size, rows)


if __name__ == "__main__":
    main()
