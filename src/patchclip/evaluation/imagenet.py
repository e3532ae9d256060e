"""Names the classes of ImageNet and its relatives, whose folders are called by WordNet id or by label."""

from dataclasses import replace

from patchclip.data.layouts.folders import DEFAULT_TEMPLATES
from patchclip.data.sets import Benchmark, Classification
from patchclip.models import imagenet


def named(benchmark: Benchmark) -> Benchmark:
    """The set with ImageNet's class names, and its 80 prompts unless the set brings prompts of its own.

    Only a classification set whose class names are all WordNet ids of ImageNet, or the numbers 0 to 999, is
    changed: ImageNet, ImageNet-V2 (folders 0 to 999), -A, -R, -O (200 ids) and -Sketch take the curated names
    of ImageNet-1k; other ids (ImageNet-21k) their first WordNet lemma, or more of WordNet's description where
    the lemma is shared. Classes keep their number and order.

    Source: as `models/imagenet.py`.
    """
    if not isinstance(benchmark, Classification):
        return benchmark
    names = _names(benchmark.classnames)
    if names is None:
        return benchmark
    opener = benchmark.opener
    return replace(
        benchmark,
        classnames=names,
        templates=imagenet.templates() if benchmark.templates is DEFAULT_TEMPLATES else benchmark.templates,
        opener=lambda split: _named_or_none(opener(split)),
    )


def _named_or_none(benchmark: Classification | None) -> Classification | None:
    found = None if benchmark is None else named(benchmark)
    return found if isinstance(found, Classification) else None


def _names(classnames: tuple[str, ...]) -> tuple[str, ...] | None:
    """ImageNet's name of each class, None where one is no class of ImageNet."""
    if classnames == tuple(map(str, range(1000))):
        return imagenet.classnames()
    if not all(len(name) == 9 and name[0] == "n" and name[1:].isdigit() for name in classnames):
        return None
    curated = dict(zip(imagenet.wordnet_ids(), imagenet.classnames(), strict=True))
    known = curated if all(name in curated for name in classnames) else curated | imagenet.lemmas()
    return tuple(known[name] for name in classnames) if all(name in known for name in classnames) else None
