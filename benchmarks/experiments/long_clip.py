"""Are words behind the context read? Held-out captions stand behind a sentence that fills the 16 tokens of
the base ("late"), or alone ("short"); recall@5 among the held-out pairs, both ways. The positions are
stretched to 40 (kept=8, factor=4: the base reads no more than 16). "late" and "short" compare cutting off
with stretching, nothing trained. "tuned" trains the text tower on captions made long (40 steps of 32,
image tower frozen, learning rate 3e-4): cut off with ClipLoss, against stretched with LongClipLoss and the
kept rows held. "tuned_short" asks what primary component matching keeps: stretched models trained on long
captions alone (weight=0), against long and short ones.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments._frame import Measure, Setting, embedded, held_out, interleaved, training_pairs
from experiments._long_captions import embedded_texts, lengthened, recall

TITLE = "Long-CLIP"
PAGE = "context/long_clip.md"
MEASURES = {
    "late": Measure("recall@5, caption behind a sentence; not trained"),
    "short": Measure("recall@5, caption alone; not trained"),
    "tuned": Measure("recall@5, caption behind a sentence; text tower trained"),
    "tuned_short": Measure("recall@5, caption alone; trained on long captions, and on short ones too"),
}
CONTEXT, BATCH, STEPS = "long_clip:kept=8", 32, 40


def tuned(setting: Setting, stretch: bool, loss: Any, pairs: tuple[Tensor, list[str]]) -> Any:
    """The base, stretched or not, with a text tower trained on long and short captions of frozen images."""
    from patchclip import spec
    from patchclip.engine.optim import adamw
    from patchclip.models.long_context import hold_positions
    from patchclip.models.text import encode_text
    from patchclip.models.towers import load

    encoder = load(setting.base, context=CONTEXT if stretch else None)
    model, (image, short) = encoder.model, pairs
    model.visual.requires_grad_(False)
    optimizer = adamw(model, 3e-4, (0.9, 0.98), 1e-6, 1e-2)
    if stretch:
        hold_positions(model, spec.build("context", CONTEXT), optimizer)
    long = lengthened(short, setting.seed)
    generator = setting.generator()
    for _ in range(setting.steps(STEPS)):
        batch = torch.randperm(len(image), generator=generator)[:BATCH]
        rows = [
            F.normalize(encode_text(model, encoder.tokenizer([source[i] for i in batch])), dim=-1)
            for source in ((long, short) if getattr(loss, "weight", 0) else (long,))
        ]
        optimizer.zero_grad()
        terms = loss(image[batch], rows[0], model.logit_scale.exp(), short_text=dict(enumerate(rows)).get(1))
        sum(terms.values()).backward()
        optimizer.step()
    return encoder


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    from patchclip.losses.clip import ClipLoss
    from patchclip.losses.long_clip import LongClipLoss
    from patchclip.models.towers import load

    cut_off, stretched = load(setting.base), load(setting.base, context=CONTEXT)
    images, captions = held_out(30 if setting.quick else None)
    short = [some[0] for some in captions]
    late = lengthened(short, setting.seed + 1)
    image, _ = embedded(cut_off, images, short)
    pictures, texts = training_pairs(40 if setting.quick else 640, setting.seed)
    pairs = embedded(cut_off, pictures, texts)[0].clone(), texts

    def recalls(encoder: Any, some: list[str]) -> float:
        return recall(image, embedded_texts(encoder, some))

    plain = tuned(setting, False, ClipLoss(), pairs)
    alone, both = (tuned(setting, True, LongClipLoss(weight=weight), pairs) for weight in (0.0, 1.0))
    return {
        "late": (recalls(cut_off, late), recalls(stretched, late)),
        "short": (recalls(cut_off, short), recalls(stretched, short)),
        "tuned": (recalls(plain, late), recalls(both, late)),
        "tuned_short": (recalls(alone, short), recalls(both, short)),
    }


def cost(setting: Setting) -> tuple[float, float]:
    """Encoding the late captions."""
    from patchclip.models.towers import load

    encoders = load(setting.base), load(setting.base, context=CONTEXT)
    texts = lengthened([some[0] for some in held_out(30 if setting.quick else None)[1]], setting.seed)
    rows = [encoder.tokenizer(texts) for encoder in encoders]
    rounds = 1 if setting.quick else 3
    works = [lambda e=e, r=r: e.encode_text(r) for e, r in zip(encoders, rows, strict=True)]
    return interleaved(works[0], works[1], rounds)
