"""The classes of ImageNet: their WordNet ids, names and prompts.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, arXiv:1409.0575
    (labels of ImageNet-1k are its sorted ids); Radford et al. 2021, arXiv:2103.00020, as shipped by open_clip
    (`zero_shot_metadata.py`: the curated names and the 80 prompts); ids and lemmas as shipped by timm.
"""

from functools import cache


@cache
def wordnet_ids() -> tuple[str, ...]:
    """The 1000 WordNet ids of ImageNet-1k ("n01440764", ...), in the order of the labels: sorted."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())


@cache
def lemmas() -> dict[str, str]:
    """The first lemma of each of the 21,841 WordNet ids of ImageNet-21k ("tench")."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    described = ((name, info.label_name_to_description(name)) for name in info.label_names())
    return {name: words.split(",")[0].strip() for name, words in described}


@cache
def classnames() -> tuple[str, ...]:
    """The 1000 class names of ImageNet-1k, in the order of the labels."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


@cache
def templates() -> tuple[str, ...]:
    """The 80 prompts, with "{c}" for the class name."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{c}") for template in OPENAI_IMAGENET_TEMPLATES)
