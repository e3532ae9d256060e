"""The classes of ImageNet: their WordNet ids, names and prompts.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, arXiv:1409.0575
    (labels of ImageNet-1k are its sorted ids); Radford et al. 2021, arXiv:2103.00020, as shipped by open_clip
    (`zero_shot_metadata.py`: the curated names and the 80 prompts); ids and lemmas as shipped by timm.
"""

from collections import Counter
from functools import cache


@cache
def wordnet_ids() -> tuple[str, ...]:
    """The 1000 WordNet ids of ImageNet-1k ("n01440764", ...), in the order of the labels: sorted."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())


@cache
def lemmas() -> dict[str, str]:
    """A name for each of the 21,841 WordNet ids of ImageNet-21k, no two alike: the first lemma ("tench").

    3,186 ids share their first lemma with another ("queen" seven times). They take more of WordNet's entry
    until it is theirs alone: all lemmas ("queen, queen regnant, female monarch"), then the first clause of
    the definition too ("queen: the wife or widow of a king"), then all of it.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    words = {name: info.label_name_to_description(name) for name in info.label_names()}
    told = {name: info.label_name_to_description(name, detailed=True) for name in words}
    found = {name: text.split(",")[0].strip() for name, text in words.items()}
    for longer in (words, {name: text.split(";")[0] for name, text in told.items()}, told):
        times = Counter(found.values())
        found = {name: longer[name] if times[text] > 1 else text for name, text in found.items()}
    return found


@cache
def classnames() -> tuple[str, ...]:
    """The 1000 class names of ImageNet-1k, in the order of the labels.

    They stay as published, so that scores compare: "missile" and "sunglasses" each name two classes, which no
    prompt can tell apart.
    """
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


@cache
def templates() -> tuple[str, ...]:
    """The 80 prompts, with "{c}" for the class name."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{c}") for template in OPENAI_IMAGENET_TEMPLATES)
