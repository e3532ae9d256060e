"""Scenes whose words are known patch by patch; `python -m tests.heads._planted` compares temperatures."""

import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.heads.pacl import PACLHead
from patchclip.losses.pacl import PACLLoss

WIDTH, EMBEDDING = 48, 32


@dataclass(frozen=True)
class Scenes:
    """Images of two things on a background of their own; the caption says both, a noun prompt the first.

    All patches share a mean and those of an image a direction, as the patches of CLIP do.

    Args:
        words: different things.
        patches: of an image.
        covered: patches that each thing covers.
        seed: of the looks of the things and of their texts.
    """

    words: int
    patches: int
    covered: int
    seed: int

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Looks [w, d] and texts [w, e] of the things, and the mean of all patches [d]."""
        generator = torch.Generator().manual_seed(self.seed)
        looks = torch.randn(self.words, WIDTH, generator=generator)
        texts = torch.randn(self.words, EMBEDDING, generator=generator)
        texts = texts + 0.7 * torch.randn(EMBEDDING, generator=generator)
        return looks, F.normalize(texts, dim=-1), torch.randn(WIDTH, generator=generator)

    def draw(self, b: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens [b, l, d], texts [b, e], numbers of the texts [b], the two things [b, 2].

        The first `covered` patches show the first thing, as many after them the second.
        """
        looks, texts, mean = self.tables()
        things = torch.randint(self.words, (b, 2), generator=generator)
        tokens = mean + 0.5 * torch.randn(b, 1, WIDTH, generator=generator)
        tokens = tokens + torch.randn(b, self.patches, WIDTH, generator=generator)
        ground = torch.randn(b, 1, WIDTH, generator=generator)
        shown = looks[things].repeat_interleave(self.covered, dim=1)
        tokens = tokens + torch.cat([shown, ground.expand(-1, self.patches - 2 * self.covered, -1)], dim=1)
        noun = torch.rand(b, generator=generator) < 0.5
        both = F.normalize(texts[things].sum(dim=1), dim=-1)
        said = torch.where(noun[:, None], texts[things[:, 0]], both)
        numbers = torch.where(noun, things[:, 0], self.words * (1 + things[:, 0]) + things[:, 1])
        return tokens, said, numbers, things


def accuracy(scenes: Scenes, temperature: float, steps: int, batch: int = 32) -> float:
    """Share of the patches of things that a head, trained on pairs alone, gives their own word of all."""
    head = PACLHead(temperature=temperature)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(scenes.seed)
        head.build(WIDTH, EMBEDDING)
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(scenes.seed + 100)
    for step in range(steps):
        tokens, said, numbers, _ = scenes.draw(batch, generator)
        PACLLoss()(head.compatibility(head(tokens), said), torch.tensor(20.0), numbers)[
            "contrastive"
        ].backward()
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
    tokens, _, _, things = scenes.draw(256, generator)
    with torch.no_grad():
        embedded = F.normalize(head(tokens[:, : 2 * scenes.covered]), dim=-1)
        found = (embedded @ scenes.tables()[1].T).argmax(dim=-1)
    return (found == things.repeat_interleave(scenes.covered, dim=1)).float().mean().item()


def main() -> None:
    """The table of docs/heads/pacl.md: 40 things, 196 patches, two seeds, 200 steps of 32 pairs."""
    for covered in (9, 39):
        for temperature in (1.0, 0.3, 0.1, 0.05, 0.02):
            found = [accuracy(Scenes(40, 196, covered, seed), temperature, 200) for seed in range(2)]
            cells = " ".join(f"{100 * each:5.1f}" for each in found)
            sys.stdout.write(f"{covered:3d} patches a thing, temperature {temperature:4.2f}: {cells}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
