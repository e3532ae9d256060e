"""Embeddings of one encoder, each computed once, whatever number of suites asks for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from patchclip.contracts import BadSample, Encoder
from patchclip.data.sets import Classification, Images, Multilabel
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation import _batches, _key, _reading, _store
from patchclip.evaluation._patches import PatchScorer, ScoredImages
from patchclip.models.similarity import Cosine

Progress = Callable[[str, int, int], None]
PROMPTS_HELD = 16384
"""Texts that are encoded, kept and reported together."""

VIEW_KEPT = 1 << 23
"""Bytes of a changed view that are kept in memory: there are dozens of them, most of no further use."""


class View(Protocol):
    """A change to an image before the model's own preprocessing, for instance a corruption.

    Attributes:
        name: names the change and all of its settings: embeddings are kept under it.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """The changed image. Randomness comes from `index`, the number of the image in its set, alone."""
        ...


@dataclass(frozen=True)
class Encoding:
    """How images and texts are encoded.

    Args:
        batch_size: images or texts a forward pass; None finds it from the memory there is.
        cache: folder that keeps embeddings between calls; None keeps them for this call only.
        threads: that read and prepare images; None takes one for each processor, at most 16, and one alone
            where a model runs on a few processors, which it keeps busy.
        on_progress: called with (what is encoded, images done, images in all).

    Raises:
        ConfigError: a batch size or number of threads below 1.
    """

    batch_size: int | None = None
    cache: Path | None = None
    threads: int | None = None
    on_progress: Progress | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value} must be at least 1, or None to have it chosen")


@dataclass(frozen=True)
class EncodedImages:
    """Embeddings of the readable images, float32 on the CPU: of unit length, or rows of the similarity.

    Attributes:
        embeddings: a row for each readable image; may lie on disk (memory-mapped).
        indices: number of each in its set, ascending.
        bad: images that could not be read.
    """

    embeddings: Float[Tensor, "b e"]
    indices: Int64[Tensor, "b"]
    bad: tuple[BadSample, ...]


class Embedder:
    """Embeddings of an encoder, kept in memory for one evaluation and, with a cache, on disk.

    The disk keeps them by the model's weights, the set's files, the preprocessing, the precision and the
    view; an interrupted encode goes on where it stopped.

    Args:
        encoder: the model; it brings its preprocessing and tokenizer.
        encoding: batch size, cache and threads.
    """

    def __init__(self, encoder: Encoder, encoding: Encoding | None = None) -> None:
        self.encoder = encoder
        self.encoding = encoding or Encoding()
        self.store = _store.Store(encoder, self.encoding.cache)
        self._images: dict[str, EncodedImages] = {}
        self._classes: dict[str, Tensor] = {}
        self._batch_size = self.encoding.batch_size
        self.similarity = getattr(encoder, "similarity", Cosine())

    def unit(self) -> "Embedder":
        """Of the same model with embeddings of unit length: for what learns of them, or compares patches."""
        if isinstance(self.similarity, Cosine):
            return self
        encoder: Any = self.encoder
        return Embedder(encoder.unit(), self.encoding)

    @property
    def device(self) -> torch.device:
        """Where scores are best computed."""
        return self.encoder.device

    @property
    def scale(self) -> float:
        """What scores are multiplied by before the softmax: exp(logit_scale) of the model, else 100."""
        return float(getattr(self.encoder, "scale", 100.0))

    def images(
        self, images: Images, name: str, view: View | None = None, only: Sequence[int] | None = None
    ) -> EncodedImages:
        """Embeddings of a set's images.

        Args:
            images: of the set.
            name: of the set, for messages and progress.
            view: a change to every image; None for the images as they are.
            only: numbers of the images wanted, ascending; None for all.

        Raises:
            DataError: not one of the images can be read.
        """
        wanted = range(len(images)) if only is None else only
        key = _key.images_key(images.fingerprint, view.name if view else "", wanted)
        found = self._images.get(key) or self._encode(images, name, view, wanted, key)
        if view is None or found.embeddings.nbytes <= VIEW_KEPT:
            self._images[key] = found
        if not len(found.indices):
            raise _unreadable(name, found.bad)
        return found

    def patch_scores(self, images: Images, name: str, scorer: PatchScorer) -> Iterator[ScoredImages]:
        """Scores of a set's images with texts by their patches, batch after batch; nothing of it is kept.

        Args:
            images: of the set.
            name: of the set, for messages and progress.
            scorer: of this encoder, with the texts.

        Raises:
            DataError: not one of the images can be read, told at the end.
        """
        threads = self.encoding.threads or _reading.threads(self.device)
        reader = _reading.Reader(images, self.encoder.preprocess, None, threads)
        done, count = 0, len(images)
        lost: list[BadSample] = []
        for block in reader.encode(scorer, range(count), self._batches()):
            readable = torch.ones(len(block.rows), dtype=torch.bool)
            readable[list(block.bad)] = False
            bad = tuple(BadSample(f"{name}/{done + i}", why) for i, why in sorted(block.bad.items()))
            if block.rows.shape[1]:  # an image could be read by now
                yield ScoredImages(block.rows[readable], done + readable.nonzero()[:, 0], bad)
            done += len(block.rows)
            lost += bad
            if self.encoding.on_progress is not None:
                self.encoding.on_progress(f"{name} patches", done, count)
        if len(lost) == count:
            raise _unreadable(name, lost)

    def texts(self, texts: Sequence[str]) -> Float[Tensor, "n e"]:
        """Embeddings of texts, float32 on the CPU; equal texts are encoded once.

        Raises:
            DataError: there is no text.
        """
        if not texts:
            raise DataError("0 texts to encode: a data set needs at least one caption or class name")
        unique = list(dict.fromkeys(texts))
        parts = [unique[i : i + PROMPTS_HELD] for i in range(0, len(unique), PROMPTS_HELD)]
        rows = torch.cat(
            [
                self.store.rows(_key.texts_key(part), partial(self._encode_texts, part))
                for part in self._told(parts, len(unique))
            ]
        )
        if len(unique) == len(texts):
            return rows
        place = {text: i for i, text in enumerate(unique)}
        return rows[torch.tensor([place[text] for text in texts])]

    def classes(self, benchmark: Classification | Multilabel) -> Float[Tensor, "c e"]:
        """Class embeddings: the renormalised mean of the unit-length embeddings of its prompts.

        Of another similarity: the mean of their rows, whose score is the mean of the prompts' scores.
        Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4 (prompt ensembling in embedding space).
        """
        prompts = [benchmark.prompts(label) for label in range(len(benchmark.classnames))]
        return self.prompts(prompts)

    def prompts(self, prompts: Sequence[Sequence[str]]) -> Float[Tensor, "c e"]:
        """Mean embedding of each class's prompts, see `classes`; prompts are held a part at a time.

        Raises:
            DataError: no class, or one without a prompt.
        """
        if not prompts or not all(prompts):
            raise DataError(f"{len(prompts)} classes: at least one, with at least one prompt each, is needed")
        key = _key.prompts_key(prompts)
        if key not in self._classes:
            self._classes[key] = self._means(prompts)
        return self._classes[key]

    def _means(self, prompts: Sequence[Sequence[str]]) -> Float[Tensor, "c e"]:
        parts: list[Sequence[Sequence[str]]] = []
        start = 0
        while start < len(prompts):
            stop, held = start + 1, len(prompts[start])
            while stop < len(prompts) and held + len(prompts[stop]) <= PROMPTS_HELD:
                held += len(prompts[stop])
                stop += 1
            parts.append(prompts[start:stop])
            start = stop
        total = sum(map(len, prompts))
        return torch.cat(
            [
                self.store.rows(_key.prompts_key(part), partial(self._mean_of_each, part))
                for part in self._told(parts, total)
            ]
        )

    def _mean_of_each(self, prompts: Sequence[Sequence[str]]) -> Float[Tensor, "c e"]:
        """One block of memory for the means: small ones between large ones would leave holes."""
        embedded = self._encode_texts([text for each in prompts for text in each])
        means = torch.empty(len(prompts), embedded.shape[1])
        for i, rows in enumerate(embedded.split([len(each) for each in prompts])):
            means[i] = rows.mean(0)
        found: Tensor = self.similarity.ensembled(means)
        return found

    def _told(self, parts: Sequence[Any], total: int) -> Iterator[Any]:
        """The parts of many texts, with word of how far they are."""
        done = 0
        for part in parts:
            yield part
            done += sum(1 if isinstance(each, str) else len(each) for each in part)
            if self.encoding.on_progress is not None and len(parts) > 1:
                self.encoding.on_progress("texts", done, total)

    def _encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n e"]:
        return _reading.encode_texts(self.encoder, texts, self.encoding.batch_size or _batches.TEXTS)

    def _encode(
        self, images: Images, name: str, view: View | None, wanted: Sequence[int], key: str
    ) -> EncodedImages:
        label = f"{name} {view.name}" if view else name
        report = self.encoding.on_progress
        threads = self.encoding.threads or _reading.threads(self.device)
        reader = _reading.Reader(images, self.encoder.preprocess, view, threads)
        kept = len(wanted)  # rows of an earlier call

        def blocks(start: int) -> Iterator[_reading.Block]:
            nonlocal kept
            done = kept = start
            for block in reader.encode(self.encoder, wanted[start:], self._batches()):
                done += len(block.rows)
                if report is not None:
                    report(label, done, len(wanted))
                yield block

        rows = self.store.encoded(key, len(wanted), blocks)
        if any(reader.readable(wanted[row]) for row in rows.bad if row < kept):
            self.store.forget(key)  # what could not be read then can be now
            rows = self.store.encoded(key, len(wanted), blocks)
        readable = torch.ones(len(wanted), dtype=torch.bool)
        readable[list(rows.bad)] = False
        indices = torch.tensor(wanted, dtype=torch.int64)
        bad = tuple(BadSample(f"{name}/{wanted[i]}", reason) for i, reason in sorted(rows.bad.items()))
        if not bad:
            return EncodedImages(rows.values, indices, bad)
        return EncodedImages(rows.values[readable], indices[readable], bad)

    def _batches(self) -> int:
        if self._batch_size is None:
            self._batch_size = _batches.found(self.encoder)
        return self._batch_size


def _unreadable(name: str, bad: Sequence[BadSample]) -> DataError:
    """Of a set without a readable image."""
    first = f"; the first failed with: {bad[0].reason}" if bad else ""
    return DataError(f"{name}: none of its {len(bad)} images can be read{first}; check the set")
