"""Which questions of images and captions a model answers, from the cosines of each question.

Letters beside those of contracts: q questions, i images and c captions of one question, p pairs that
belong together: p = min(i, c), the k-th image and the k-th caption.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patchclip.data.sets import Choice
from patchclip.data.spread import spread
from patchclip.evaluation._metrics import COSINE_TIE


@dataclass(frozen=True)
class Outcomes:
    """What was right, question by question.

    Attributes:
        text: every image finds its caption among the captions.
        image: every caption finds its image among the images.
    """

    text: Bool[Tensor, "q"]
    image: Bool[Tensor, "q"]

    @property
    def both(self) -> Bool[Tensor, "q"]:
        """Both: Winoground's group score."""
        return self.text & self.image


def outcomes(cosines: Float[Tensor, "q i c"], tie: float = COSINE_TIE) -> Outcomes:
    """Answers that are right: the right cosine is above every other of its row (text) or column (image).

    Formula: text = all_k [s(k, k) > max_{j != k} s(k, j) + tie], image the same over columns.
    Source: Thrush et al., "Winoground", CVPR 2022, arXiv:2204.03162, equations 1-3: `text`, `image`, `both`.
    Differs: a tie is wrong, as in the paper; clip_benchmark has `first_of_largest`.

    Args:
        cosines: of every image with every caption of a question.
        tie: cosines that differ by at most this are tied, >= 0; NaN counts against the model.
    """
    pairs = min(cosines.shape[1:])
    own = cosines.diagonal(dim1=1, dim2=2)  # q p
    rows = (~(cosines[:, :pairs] < own[:, :, None] - tie)).sum(2)  # the own cosine is not below itself
    columns = (~(cosines[:, :, :pairs] < own[:, None] - tie)).sum(1)
    known = own.isfinite().all(1)
    return Outcomes((rows == 1).all(1) & known, (columns == 1).all(1) & known)


def first_of_largest(cosines: Float[Tensor, "q i c"]) -> Outcomes:
    """The same as clip_benchmark 1.6 has it: the first of the largest cosines is the answer.

    A model for which all is alike gets every question of one image right and none of two: its first caption
    and its first image are always right, its second never.
    """
    pairs = min(cosines.shape[1:])
    wanted = torch.arange(pairs, device=cosines.device)
    text = cosines.argmax(2)[:, :pairs] == wanted
    image = cosines.argmax(1)[:, :pairs] == wanted
    return Outcomes(text.all(1), image.all(1))


def chance(images: int, captions: int) -> dict[str, float]:
    """Expected scores of a random order, by clip_benchmark's names.

    Formula: text_acc = c^-p, image_acc = i^-p; acc = 1 / max(i, c) for one pair, and 1/6 for two by two: of
    the 4! orders of its cosines 4 have both right ones first.
    `image_acc` of one image, which is always 1, is absent, and so is `acc` of other sizes.
    """
    pairs = min(images, captions)
    found = {"text_acc": captions**-pairs}
    if images > 1:
        found["image_acc"] = images**-pairs
    if pairs == 1:
        found["acc"] = 1 / max(images, captions)
    elif images == captions == 2:
        found["acc"] = 1 / 6
    return found


def macro(choices: Sequence[Choice], right: Bool[Tensor, "q"]) -> float | None:
    """Mean over groups of the share of their questions that is right; None where no question has a group.

    Formula: 1/g sum_g (right questions of group g) / (questions of group g).
    Source: Yuksekgonul et al., "When and why vision-language models behave like bags-of-words", ICLR 2023,
        arXiv:2210.01936, `evaluate_scores` and the notebook beside it: macro accuracy.
    Differs: which questions have a group is for data/layouts/selections.py to say.

    Args:
        choices: the questions.
        right: which are answered.
    """
    answers: dict[str, list[bool]] = {}
    for choice, answer in zip(choices, right.tolist(), strict=True):
        if choice.group:
            answers.setdefault(choice.group, []).append(answer)
    shares = [sum(each) / len(each) for each in answers.values()]
    return math.fsum(shares) / len(shares) if shares else None


def examples(
    choices: Sequence[Choice], cosines: Float[Tensor, "q i c"], wanted: Bool[Tensor, "q"], most: int
) -> list[dict[str, Any]]:
    """Up to `most` of the wanted questions, spread evenly over their places: never chosen by how they look.

    Args:
        choices: the questions.
        cosines: of each.
        wanted: which questions may be shown.
        most: of them.

    Returns:
        For each the image of the smallest margin, its right caption, the closest wrong one, the one chosen
        and the margin, right cosine less wrong one; all images and captions where there are several images.
    """
    places = wanted.nonzero()[:, 0].tolist()
    shown = [places[k] for k in spread(len(places), most)]
    return [_example(choices[place], cosines[place].nan_to_num(nan=-1.0)) for place in shown]


def _example(choice: Choice, cosines: Float[Tensor, "i c"]) -> dict[str, Any]:
    pairs = min(cosines.shape)
    others = cosines[:pairs].clone()
    others[range(pairs), range(pairs)] = -torch.inf
    lead = cosines.diagonal() - others.amax(1)
    k = int(lead.argmin())
    right, wrong = choice.captions[k], choice.captions[int(others[k].argmax())]
    found: dict[str, Any] = {"image": choice.images[k], "right": right, "wrong": wrong}
    found |= {"chosen": right if lead[k] > COSINE_TIE else wrong, "margin": round(float(lead[k]), 6)}
    if len(choice.images) > 1:
        found |= {"images": list(choice.images), "captions": list(choice.captions)}
    return found
