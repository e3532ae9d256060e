"""The text side: labels with their names, prompts, words for the background, and their embeddings.

Source: Radford et al. 2021, arXiv 2103.00020, section 3.1.4 (prompts, averaged as embeddings); Wang et al.,
    "SCLIP", ECCV 2024, arXiv 2312.01597, released code (the best name of a class, stuff as background).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip import registry
from patchclip.data import nouns
from patchclip.dense._stuff import background_names
from patchclip.errors import ConfigError
from patchclip.models import imagenet

logger = logging.getLogger(__name__)

TEXTS = 256
"""Texts of one forward pass."""

LONGEST = 200
"""Characters of a label: what is longer is no name. Whether a text tower reads all of it, its tokens say."""

SPARE = 4
"""Tokens that a text has at most beside those of its bytes: start, end and what a tokenizer sets before."""

PROMPTS: dict[str, tuple[str, ...]] = {
    "pacl7": nouns.PROMPTS,
    "tcl9": (*nouns.PROMPTS, "a photo of many {}.", "a photo of {}s."),
    "photo": ("a photo of a {}.",),
    "plain": ("{}",),
}
"""Named sets; "openai80" are the 80 of ImageNet, from open_clip.

pacl7 is the subset of 7 that CLIP's authors chose for ImageNet and PACL trains with (Mukhoti et al., CVPR
2023, appendix); tcl9 adds two plurals (Cha et al., "TCL", CVPR 2023, arXiv 2212.00785, released code).
"""

Labels = Sequence[str | Sequence[str]]


@dataclass(frozen=True)
class Vocabulary:
    """Labels, all their names, and the names' embeddings.

    Attributes:
        labels: n, the first name of each.
        names: of all labels, then of the background.
        owner: label of each name, 1 to n; 0 for the background.
        texts: unit length, float32, on the encoder's device.
        prompts: that were averaged.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    owner: Int64[Tensor, "m"]
    texts: Float[Tensor, "m e"]
    prompts: tuple[str, ...]

    def of_labels(self, scores: Float[Tensor, "m l"]) -> Float[Tensor, "n l"]:
        """Of every label the best of its names."""
        own = self.owner > 0
        found = scores.new_full((len(self.labels), scores.shape[1]), -torch.inf)
        place = (self.owner[own] - 1)[:, None].expand(-1, scores.shape[1])
        return found.scatter_reduce_(0, place, scores[own], "amax")


def vocabulary(
    encoder: Any,
    labels: Labels,
    prompts: str | tuple[str, ...] = "pacl7",
    background: tuple[str, ...] | None = (),
) -> Vocabulary:
    """Encodes labels and background words once.

    Args:
        encoder: with `tokenizer`, `encode_text` and `device`, as `patchclip.load` gives it.
        labels: names, or tuples of names that mean the same: a label's score is its best name's.
        prompts: a named set (`PROMPTS`, "openai80") or templates with a place "{}" for the name.
        background: words for what is no label; None for the general list less what labels say.

    Raises:
        ConfigError: no label, an empty or overlong name, a name of two labels, two labels whose names are cut
            to the same tokens, a template without a place.
    """
    groups = checked(labels)
    templates = templates_of(prompts)
    known = {fold(name) for group in groups for name in group}
    words = background_names(known) if background is None else background
    rest = tuple(word for word in dict.fromkeys(map(checked_name, words)) if fold(word) not in known)
    names = tuple(name for group in groups for name in group) + rest
    owner = [i + 1 for i, group in enumerate(groups) for _ in group] + [0] * len(rest)
    check_rows(encoder.tokenizer, names, owner, templates)
    texts = encode(encoder, names, templates)
    first = tuple(group[0] for group in groups)
    return Vocabulary(first, names, torch.tensor(owner, device=texts.device), texts, templates)


def checked(labels: Labels) -> tuple[tuple[str, ...], ...]:
    """The names of every label, without repeats within a label."""
    if isinstance(labels, str):
        raise ConfigError(f"labels={labels!r} must be a list of names: write {labels.split(',')}")
    if not isinstance(labels, Sequence):
        raise ConfigError(
            f"labels={labels!r} must be a list of names, as ['cat', 'grass']: write list(labels)"
        )
    if not labels:
        raise ConfigError("0 labels were given: name at least one thing to look for, as in ['cat', 'grass']")
    groups = []
    taken: dict[str, int] = {}
    for number, label in enumerate(labels):
        group = [checked_name(name) for name in names_of(label, number + 1)]
        unique = tuple({fold(name): name for name in reversed(group)}.values())[::-1]
        for name in unique:
            if fold(name) in taken:
                raise ConfigError(
                    f"labels {taken[fold(name)] + 1} and {number + 1} are both called {name!r}: "
                    "a name may belong to one label only; leave one out"
                )
            taken[fold(name)] = number
        groups.append(unique)
    return tuple(groups)


def names_of(label: str | Sequence[str], number: int) -> Sequence[str]:
    """The names of one label, counted from 1. Raises ConfigError for what is neither text nor texts."""
    if isinstance(label, str):
        return (label,)
    if not isinstance(label, Sequence):
        raise ConfigError(
            f"label {number} is {label!r}: it must be a name, as 'cat', or a tuple of names of the same thing"
        )
    if not label:
        raise ConfigError(f"label {number} has no name: a tuple of synonyms needs at least one")
    for name in label:
        if not isinstance(name, str):
            raise ConfigError(f"label {number} holds {name!r}: its names must be texts, as ('cat', 'kitten')")
    return label


def checked_name(name: str) -> str:
    """The name without outer spaces. Raises ConfigError for an empty or overlong one."""
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"the label {name!r} is empty: every label needs a name, as in 'cat'")
    if len(name.strip()) > LONGEST:
        raise ConfigError(
            f"a label has {len(name)} characters ({name.strip()[:40]!r}...): at most {LONGEST} are read; "
            "shorten it to a name or a short phrase"
        )
    return " ".join(name.split())


def fold(name: str) -> str:
    """How names are compared: without capitals."""
    return " ".join(name.split()).casefold()


def templates_of(prompts: str | tuple[str, ...]) -> tuple[str, ...]:
    """The templates of a named set, or the given ones, each with a place for the name.

    Raises:
        ConfigError: an unknown set, no template, or one without "{}" or "{c}".
    """
    if isinstance(prompts, str):
        if prompts == "openai80":
            return imagenet.templates()
        if prompts in PROMPTS:
            return PROMPTS[prompts]
        if "{" not in prompts:
            known = registry.closest(prompts, [*PROMPTS, "openai80"])
            raise ConfigError(
                f"prompts={prompts!r} is no set of prompts and has no place '{{}}' for a name; {known}"
            )
        prompts = (prompts,)
    if not isinstance(prompts, tuple | list) or not all(isinstance(each, str) for each in prompts):
        raise ConfigError(
            f"prompts={prompts!r} must be the name of a set, as 'pacl7', or a tuple of templates, "
            "as ('a {}',)"
        )
    if not prompts:
        raise ConfigError("prompts=() holds no template: give at least one, as 'a photo of a {}.'")
    for template in prompts:
        if "{}" not in template and "{c}" not in template:
            raise ConfigError(f"the prompt {template!r} has no place for the name: write {{}} there")
    return tuple(prompts)


def encode(encoder: Any, names: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "m e"]:
    """Unit-length mean over the templates of unit-length embeddings, float32, in bounded batches."""
    encoder = encoder.unit() if hasattr(encoder, "unit") else encoder  # whatever it scores images by
    rows = max(1, TEXTS // len(templates))
    means = []
    for i in range(0, len(names), rows):
        part = names[i : i + rows]
        texts = [filled(template, name) for name in part for template in templates]
        embedded = [
            encoder.encode_text(encoder.tokenizer(texts[j : j + TEXTS])) for j in range(0, len(texts), TEXTS)
        ]
        mean = F.normalize(torch.cat(embedded).float(), dim=-1).unflatten(0, (len(part), -1)).mean(dim=1)
        means.append(F.normalize(mean, dim=-1))
    return torch.cat(means)


def filled(template: str, name: str) -> str:
    """The template with the name in its place."""
    return template.replace("{c}", name).replace("{}", name)


def check_rows(tokenizer: Any, names: Sequence[str], owner: Sequence[int], templates: Sequence[str]) -> None:
    """Warns of names whose texts fill the text tower's context, so that their end may not be read.

    A row of tokens is full where more words at the end of the text leave it as it is. Only the longest
    template is tried, and only names with as many bytes as the context has tokens.

    Args:
        tokenizer: with `context_length` or `length`, as open_clip's and `patchclip.load`'s have it; the rows
            of another one are not looked at.
        names: of labels and of the background.
        owner: label of each name, 0 for the background.
        templates: with a place for the name.

    Raises:
        ConfigError: two labels, or a label and a word of the background, have the same rows in all templates.
    """
    context = getattr(tokenizer, "context_length", None) or getattr(tokenizer, "length", None)
    if context is None:
        return
    longest = max(templates, key=lambda template: len(template.encode()))
    full = []
    for i, name in enumerate(names):
        text = filled(longest, name)
        if len(text.encode()) + SPARE >= context:
            rows = tokenizer([text, f"{text} and more"])
            if torch.equal(rows[0], rows[1]):
                full.append(i)
    if not full:
        return
    check_different(tokenizer, [(names[i], owner[i]) for i in full], templates, context)
    shown = ", ".join(shortened(names[i]) for i in full[:3]) + (", ..." if len(full) > 3 else "")
    logger.warning(
        "%d %s all %d tokens of the text tower in the prompt %r, the rest is not read: %s",
        *(len(full), "names fill" if len(full) > 1 else "name fills", context, longest, shown),
    )


def check_different(
    tokenizer: Any, named: Sequence[tuple[str, int]], templates: Sequence[str], context: int
) -> None:
    """Raises ConfigError where names of two owners have the same rows of tokens: their scores would tie."""
    seen: dict[bytes, tuple[str, int]] = {}
    for name, number in named:
        row = tokenizer([filled(template, name) for template in templates]).numpy().tobytes()
        other, owner = seen.setdefault(row, (name, number))
        if owner != number:
            raise ConfigError(
                f"{shortened(other)} and {shortened(name)} cannot be told apart: the text tower "
                f"reads {context} tokens, and theirs are the same; shorten one of them, or leave it out"
            )


def shortened(name: str) -> str:
    """A name in a message: of a long one its beginning and its end."""
    return repr(name if len(name) <= 60 else f"{name[:30]}...{name[-20:]}")
