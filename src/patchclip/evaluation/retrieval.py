"""Zero-shot retrieval: the right picture for a caption, a right caption for a picture."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Int64
from torch import Tensor

from patchclip.contracts import Encoder
from patchclip.errors import DataError
from patchclip.evaluation._encode import EncodedImages, ImageSet, encode_images, encode_texts
from patchclip.evaluation._metrics import matched_ranks, retrieval_chance, share_within
from patchclip.evaluation._result import Result

TASK = "zeroshot_retrieval"
RECALL_AT = (1, 5, 10)
EXAMPLES = 6
EXAMPLE_TOP = 5


class RetrievalSet(ImageSet, Protocol):
    """Images with the captions of each."""


def retrieval(
    encoder: Encoder,
    benchmark: RetrievalSet,
    batch_size: int = 128,
    on_images: Callable[[int, int], None] | None = None,
) -> Result:
    """Recall@1, 5 and 10 in both directions, several captions an image allowed.

    Metrics: `image_retrieval_recall@k` (every caption searches the images) and `text_retrieval_recall@k`
    (every image that has captions searches all captions; one of its own among the first k is a hit), as
    clip_benchmark defines them. A k above the number of entries searched is absent.
    Differs: ties count as wrong; clip_benchmark leaves them to the order of `topk`.

    Args:
        encoder: the model.
        benchmark: images with captions.
        batch_size: images or captions a forward pass.
        on_images: called with (images done, images in all).

    Returns:
        Metrics, chance levels, and what was found for a few queries spread evenly over the set.

    Raises:
        DataError: no image can be read or there is no caption.
    """
    encoded = encode_images(encoder, benchmark, batch_size, on_images)
    texts = [caption for captions in encoded.targets for caption in captions]
    if not texts:
        raise DataError(
            f"{benchmark.name}: its {len(encoded.indices)} images have no caption; retrieval needs some"
        )
    captions = encode_texts(encoder, texts, batch_size)
    device = captions.device
    each = torch.tensor([len(captions) for captions in encoded.targets], dtype=torch.int64, device=device)
    image_id = torch.arange(len(each), device=device)
    text_id = image_id.repeat_interleave(each)
    described = each > 0
    by_text = matched_ranks(captions, encoded.embeddings, text_id, image_id, EXAMPLE_TOP)
    by_image = matched_ranks(
        encoded.embeddings[described], captions, image_id[described], text_id, EXAMPLE_TOP
    )
    metrics, chance = _score("image", by_text[0], torch.ones_like(text_id), len(each))
    more_metrics, more_chance = _score("text", by_image[0], each[described], len(texts))
    return Result(
        dataset=benchmark.name,
        task=TASK,
        metrics=metrics | more_metrics,
        chance=chance | more_chance,
        images=len(each),
        captions=len(texts),
        bad=encoded.bad,
        model=encoder.name,
        details={
            "caption_to_images": _caption_rows(encoded, texts, text_id, by_text),
            "image_to_captions": _image_rows(encoded, texts, text_id, (image_id[described], *by_image)),
        },
    )


def _score(
    found: str, ranks: Int64[Tensor, "q"], positives: Int64[Tensor, "q"], gallery: int
) -> tuple[dict[str, float], dict[str, float]]:
    names = {k: f"{found}_retrieval_recall@{k}" for k in RECALL_AT if k <= gallery}
    metrics = {name: share_within(ranks, k) for k, name in names.items()}
    return metrics, {name: retrieval_chance(positives, gallery, k) for k, name in names.items()}


def _spread(total: int) -> list[int]:
    """Up to EXAMPLES positions spread evenly over range(total): chosen by place, never by success."""
    shown = min(EXAMPLES, total)
    return [(2 * i + 1) * total // (2 * shown) for i in range(shown)]


def _caption_rows(
    encoded: EncodedImages, texts: Sequence[str], text_id: Tensor, found: tuple[Tensor, Tensor]
) -> list[dict[str, Any]]:
    """Examples of caption -> images; image numbers are indices into the benchmark."""
    ranks, top = found
    return [
        {
            "caption": texts[i],
            "image": encoded.indices[int(text_id[i])],
            "top": [encoded.indices[j] for j in top[i].tolist()],
            "rank": int(ranks[i]),
        }
        for i in _spread(len(texts))
    ]


def _image_rows(
    encoded: EncodedImages, texts: Sequence[str], text_id: Tensor, found: tuple[Tensor, Tensor, Tensor]
) -> list[dict[str, Any]]:
    """Examples of image -> captions, each caption with whether it is one of the image's own."""
    queries, ranks, top = found
    return [
        {
            "image": encoded.indices[int(queries[i])],
            "top": [[texts[j], int(text_id[j]) == int(queries[i])] for j in top[i].tolist()],
            "rank": int(ranks[i]),
        }
        for i in _spread(len(queries))
    ]
