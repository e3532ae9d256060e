"""`patchclip adapt` as a function: a method on a set, its figures, and what is kept of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from patchclip.contracts import Encoder
from patchclip.data.benchmarks import load_benchmark, resolve
from patchclip.data.sets import Classification
from patchclip.embeddings.linear_map import LinearMap
from patchclip.engine.adapting.captions import PairImages, adapt_captions, open_captioned
from patchclip.engine.adapting.classes import adapt_classes
from patchclip.engine.adapting.folder import check_folder, clear_others
from patchclip.engine.adapting.result import Adaptation
from patchclip.engine.adapting.saved import MAP, SavedAdapter, save_adapter, save_model, write_result
from patchclip.engine.adapting.settings import ADAPTER, CAPTIONS, Settings, kind_of
from patchclip.errors import DataError, TowerError
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.models.folding import fold_text
from patchclip.models.similarity import Cosine


def adapt(
    encoder: Encoder,
    data: str,
    method: str,
    settings: Settings | None = None,
    *,
    output: str | Path | None = None,
    encoding: Encoding | None = None,
) -> Adaptation:
    """Adapts a model to a set with each seed's images, and judges it beside zero-shot.

    Args:
        encoder: of `patchclip.load`; its weights stay as they are.
        data: name of a set with a train split under the root; for methods that learn from captions a
            captioned set, or pairs ("samples", shards, a table).
        method: NAME or NAME:key=value;key=value of `patchclip list adapters`.
        settings: shots, seeds, and so on; None for the defaults.
        output: folder for result.json and what the first seed fitted; None keeps nothing. What an earlier
            adaptation left there is replaced, files of any other origin are not.
        encoding: batch size, cache and progress.

    Returns:
        The figures.

    Raises:
        ConfigError: an unknown method, option or corruptor, a setting without effect on the method, or an
            output that must not be written to.
        DataError: a set that is missing, of another kind, or with too few images.
        TowerError: a model that cannot be adapted.
    """
    settings = settings or Settings()
    kind = check(method, settings, output, encoder.name)
    if not isinstance(getattr(encoder, "similarity", Cosine()), Cosine):
        raise TowerError(f"{encoder.name} does not score by cosines: adapters are made for those that do")
    if kind == CAPTIONS:
        return _captions(encoder, data, method, settings, (output, encoding))
    benchmark = _open(data, settings)
    embedder = Embedder(encoder, encoding)
    found, fitted = adapt_classes(embedder, benchmark, method, kind, settings)
    if output is not None:
        folder = Path(output)
        if kind == ADAPTER:
            names = benchmark.classnames
            prompts = tuple(benchmark.prompts(label) for label in range(len(names)))
            save_adapter(SavedAdapter(fitted, names, prompts, method, encoder.name), folder)
        else:
            save_model(fitted, folder)
        write_result(found, folder)
        clear_others(folder, kind)
    return found


def check(method: str, settings: Settings, output: str | Path | None = None, model: str = "") -> str:
    """The kind of a method, once all is checked that needs neither the model nor the set.

    Args:
        method: as for `adapt`, like the others.
        settings: must all have an effect.
        output: must be no file, no folder of a run, none with files of another origin that would be replaced.
        model: name or path of the model, which must not lie in `output`.

    Raises:
        ConfigError: one of these does not hold, or an unknown method or option.
    """
    kind = kind_of(method)
    settings.check(method, kind)
    if output is not None:
        check_folder(Path(output), model)
    return kind


def _captions(
    encoder: Any, data: str, method: str, settings: Settings, kept: tuple[str | Path | None, Encoding | None]
) -> Adaptation:
    output, encoding = kept
    captioned = open_captioned(data, settings)
    if output is not None:  # a tower that takes no map is told before anything is encoded
        width = encoder.encode_text(encoder.tokenizer(["a"])).shape[1]
        fold_text(encoder.architecture, torch.eye(width))
    if encoding is not None and isinstance(captioned.images, PairImages):
        encoding = replace(encoding, cache=None)
    embedder = Embedder(encoder, encoding)
    found, fitted = adapt_captions(embedder, captioned, method, settings)
    if output is not None:
        folder = Path(output)
        fitted.save(folder / MAP)
        save_model(fold_text(encoder.architecture, fitted.weight, _offset(fitted)), folder)
        write_result(found, folder)
        clear_others(folder, CAPTIONS)
    return found


def _offset(fitted: LinearMap) -> torch.Tensor | None:
    """What is added to every embedding: bias - weight shift."""
    if fitted.shift is None and fitted.bias is None:
        return None
    return fitted.apply(torch.zeros(fitted.input_width, dtype=fitted.weight.dtype))


def _open(data: str, settings: Settings) -> Classification:
    names, missing = resolve(settings.data_root, [data])
    if missing or len(names) != 1:
        raise DataError(
            "; ".join(reason for _, reason in missing) or f"{data!r} names several sets: give one"
        )
    found = load_benchmark(settings.data_root, names[0])
    if not isinstance(found, Classification):
        raise DataError(
            f"{data!r} has no class for each image: this method learns from labelled images, as those of "
            "zs_clipart or zs_furniture"
        )
    return found
