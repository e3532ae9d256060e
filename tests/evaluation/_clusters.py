"""Embeddings like those of a CLIP model, for the tests of the probes."""

import torch
import torch.nn.functional as F

from patchclip.evaluation.probe.examples import Examples


def clusters(images: int, width: int, classes: int, noise: float, seed: int = 0) -> Examples:
    """Unit-length features around a centre a class, all in one cone as CLIP's are."""
    generator = torch.Generator().manual_seed(7)
    centres = torch.randn(classes, width, generator=generator) + 3 * torch.randn(
        1, width, generator=generator
    )
    generator.manual_seed(seed)
    labels = torch.arange(images) % classes
    features = centres[labels] + noise * torch.randn(images, width, generator=generator)
    return Examples("clusters", F.normalize(features, dim=1), labels)
