"""Embeddings of two coloured objects whose binding both modalities hold in different places."""

import torch
import torch.nn.functional as F
from torch import Tensor

COLOURS, OBJECTS = 4, 3


def scenes(count: int, seed: int = 0) -> Tensor:
    """[n, 4]: colour and object, another colour and another object."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.stack([torch.randperm(COLOURS, generator=generator)[:2] for _ in range(count)])
    objects = torch.stack([torch.randperm(OBJECTS, generator=generator)[:2] for _ in range(count)])
    return torch.stack([colours[:, 0], objects[:, 0], colours[:, 1], objects[:, 1]], 1)


def swapped(found: Tensor) -> Tensor:
    """The same with the colours exchanged."""
    return found[:, [2, 1, 0, 3]]


def words(found: Tensor) -> Tensor:
    """Bag of words: which colours and objects there are; the same for swapped colours."""
    bag = torch.zeros(len(found), COLOURS + OBJECTS)
    for column, first in ((0, 0), (2, 0), (1, COLOURS), (3, COLOURS)):
        bag[torch.arange(len(found)), first + found[:, column]] += 1
    return bag


def bindings(found: Tensor) -> Tensor:
    """Which colour goes with which object."""
    pairs = torch.zeros(len(found), COLOURS * OBJECTS)
    for colour, thing in ((0, 1), (2, 3)):
        pairs[torch.arange(len(found)), found[:, colour] * OBJECTS + found[:, thing]] += 1
    return pairs


def image_rows(found: Tensor) -> Tensor:
    """Unit rows: the bag, then the bindings."""
    empty = torch.zeros(len(found), COLOURS * OBJECTS)
    return F.normalize(torch.cat([words(found), bindings(found), empty], 1), dim=-1)


def text_rows(found: Tensor) -> Tensor:
    """Unit rows: the bag in the same place, the bindings in another one: the cosine sees no binding."""
    empty = torch.zeros(len(found), COLOURS * OBJECTS)
    return F.normalize(torch.cat([words(found), empty, bindings(found)], 1), dim=-1)
