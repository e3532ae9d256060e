"""Images from files to embeddings: threads decode and prepare batches, on a GPU while another is encoded."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from patchclip.contracts import Encoder
from patchclip.data.sets import Images
from patchclip.errors import ConfigError

logger = logging.getLogger(__name__)

UNREADABLE = (OSError, SyntaxError, ValueError)
"""What reading a damaged image raises; Pillow has no error of its own for it."""

THINNEST = 200
"""Long side over short side; a thinner image would be enlarged to gigabytes before its crop."""

MOST, FEW = 16, 4
"""Threads at most, and processors that a model on the CPU keeps busy alone."""

AHEAD = {"cpu": 0}
"""Batches that are prepared while one is encoded, 2 unless named here: a CPU does one thing at full speed."""


class _View(Protocol):
    def __call__(self, image: Image.Image, index: int) -> Image.Image: ...


class Model(Protocol):
    """What makes a row of numbers of each image: an encoder, or a scorer (see _patches.py)."""

    @property
    def device(self) -> torch.device: ...

    def encode_image(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]: ...


@dataclass(frozen=True)
class Block:
    """Embeddings of some images that follow each other; a row of an unreadable one is NaN.

    Attributes:
        rows: on the CPU, float32.
        bad: unreadable ones by their row in the block.
    """

    rows: Float[Tensor, "b e"]
    bad: dict[int, str]


@dataclass
class Reader:
    """Reads, changes and prepares the images of one set.

    Args:
        images: of the set.
        preprocess: the model's own preparation of an RGB image.
        view: a change before it, or None.
        threads: that do so.
    """

    images: Images
    preprocess: Callable[[Image.Image], Tensor]
    view: _View | None = None
    threads: int = 1
    _size: int = field(default=0, init=False)

    def encode(self, encoder: Model, wanted: Sequence[int], batch_size: int) -> Iterator[Block]:
        """Embeds the wanted images in order.

        A batch that does not fit the GPU is halved, and so are those after it.

        Raises:
            ConfigError: one image alone does not fit the GPU.
        """
        self._size = batch_size
        width = 0
        waiting: list[dict[int, str]] = []  # unreadable batches before the first readable image
        ahead = AHEAD.get(encoder.device.type, 2)
        for pixels, bad in self._prepared(wanted, batch_size, ahead):
            if len(pixels) == 0 and not width:
                waiting.append(bad)
                continue
            rows = self._embedded(encoder, pixels) if len(pixels) else torch.empty(0, width)
            width = rows.shape[1]
            for earlier in waiting:
                yield Block(torch.full((len(earlier), width), torch.nan), earlier)
            waiting.clear()
            yield Block(_spread(rows, bad), bad)
        for earlier in waiting:
            yield Block(torch.empty(len(earlier), 0), earlier)

    def _prepared(
        self, wanted: Sequence[int], size: int, ahead: int
    ) -> Iterator[tuple[Tensor, dict[int, str]]]:
        """Pixels of the readable images of every batch, and what is wrong with the others by their row."""
        if self.threads == 1:
            for first in range(0, len(wanted), size):
                yield _batch([self._read(i) for i in wanted[first : first + size]])
            return
        with ThreadPoolExecutor(self.threads, thread_name_prefix="patchclip-read") as pool:
            queue: deque[list[Future[Tensor | str]]] = deque()
            starts = iter(range(0, len(wanted), size))
            try:
                while True:
                    while len(queue) <= ahead and (start := next(starts, None)) is not None:
                        queue.append([pool.submit(self._read, i) for i in wanted[start : start + size]])
                    if not queue:
                        return
                    yield _batch([future.result() for future in queue.popleft()])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, index: int) -> Tensor | str:
        """Prepared pixels of an image, or why it cannot be read; a mistake of a transform is raised."""
        try:
            image = self.images[index]
        except UNREADABLE as error:
            return str(error) or type(error).__name__
        if max(image.size) > THINNEST * min(image.size):
            return f"{image.width} x {image.height} pixels: thinner than 1:{THINNEST}, no model can see that"
        return self.preprocess(image if self.view is None else self.view(image, index))

    def readable(self, index: int) -> bool:
        """Whether an image can be read now."""
        try:
            return max(size := self.images[index].size) <= THINNEST * min(size)
        except UNREADABLE:
            return False

    def _embedded(self, encoder: Model, pixels: Tensor) -> Float[Tensor, "b e"]:
        parts = []
        start = 0
        while start < len(pixels):
            part = pixels[start : start + self._size]
            try:
                with torch.inference_mode():
                    parts.append(encoder.encode_image(part.to(encoder.device)).float().cpu())
            except torch.OutOfMemoryError as error:
                if self._size == 1:
                    words = "one image does not fit the GPU's memory: use a smaller model"
                    raise ConfigError(words) from error
                self._size = max(1, min(self._size, len(part)) // 2)
                torch.cuda.empty_cache()
                logger.warning("the GPU's memory is full: going on with %d images a pass", self._size)
                continue
            start += len(part)
        return torch.cat(parts)


def _batch(found: Sequence[Tensor | str]) -> tuple[Tensor, dict[int, str]]:
    """The images of a batch as one tensor, and why others are missing by their row."""
    pixels = [each for each in found if isinstance(each, Tensor)]
    bad = {i: each for i, each in enumerate(found) if isinstance(each, str)}
    return torch.stack(pixels) if pixels else torch.empty(0), bad


def _spread(rows: Float[Tensor, "k e"], bad: dict[int, str]) -> Float[Tensor, "b e"]:
    """Puts rows of NaN where unreadable images are."""
    if not bad:
        return rows
    full = rows.new_full((len(rows) + len(bad), rows.shape[1]), torch.nan)
    full[[i for i in range(len(full)) if i not in bad]] = rows
    return full


def threads(device: torch.device) -> int:
    """Threads that read images for a model on a device.

    On a CPU they compete with the model's own, whose every step waits for the slowest: a few processors are
    better left to it.
    """
    processors = os.cpu_count() or 1
    return 1 if device.type == "cpu" and processors <= FEW else min(MOST, processors)


def encode_texts(encoder: Encoder, texts: Sequence[str], batch_size: int) -> Float[Tensor, "n e"]:
    """Unit-length text embeddings, float32 on the CPU.

    Texts of equal length go together: a causal tower need not look at the padding behind the longest.
    """
    tokens = _joined([encoder.tokenizer(list(texts[i : i + 4096])) for i in range(0, len(texts), 4096)])
    order = _length(tokens).argsort(stable=True)
    parts = []
    for rows in order.split(batch_size):
        with torch.inference_mode():
            parts.append(encoder.encode_text(tokens[rows].to(encoder.device)).float().cpu())
    embedded = torch.cat(parts)
    return torch.empty_like(embedded).index_copy_(0, order, embedded)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows of tokens below each other; those with fewer windows (models/long_context.py) get empty ones."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, width - part.shape[1]), value=-1) for part in parts])


def _length(tokens: Tensor) -> Tensor:
    """Position behind the last token that is not what the row ends with, 0 where all are alike."""
    places = torch.arange(1, tokens.shape[1] + 1)
    return ((tokens != tokens[:, -1:]) * places).amax(1)
