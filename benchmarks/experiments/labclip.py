"""Does a linear map of the text embeddings tell true captions from ones with a hard false word order or a
false word, on pairs that were held out? 1,200 shipped pairs, false captions by the corruptor `hard`, a fifth
of the images held out; settings of the released code for its small set (CLEVR: 50 epochs, batches of 128,
learning rate 0.01). Beside it what the map costs in retrieval, and the swapped attributes of the composed
scenes, which it never saw, asked of the model with the map folded in. The cost is that of encoding pairs
and false captions, without and with the fit; at inference there is none.
"""

import random

import torch

from experiments._frame import Measure, Setting, embedded, interleaved, scores, training_pairs

TITLE = "LABCLIP"
PAGE = "adapt/labclip.md"
MEASURES = {
    "choice": Measure("true caption over a false one, held-out pairs"),
    "image": Measure("caption finds its image (R@1), held-out pairs"),
    "text": Measure("image finds its caption (R@1), held-out pairs"),
    "swap": Measure("scenes, swapped attributes (map folded in)"),
}
METHOD = "labclip:epochs=50;batch_size=128;learning_rate=0.01"


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """The figures of the command, and compositionality of the folded model."""
    from patchclip.engine.adapting.run import adapt
    from patchclip.engine.adapting.settings import Settings
    from patchclip.models.towers import load

    settings = Settings(seeds=1, first_seed=setting.seed, pairs=60 if setting.quick else 1200)
    output = setting.folder / f"labclip-{setting.seed}"
    method = "labclip:epochs=1" if setting.quick else METHOD
    rows = adapt(load(setting.base), "samples", method, settings, output=output).rows
    found = dict(
        zip(("choice", "image", "text"), ((row.zero_shot[0], row.adapted[0]) for row in rows), strict=True)
    )
    if setting.quick:
        return found
    swapped = [
        scores(model, "compositionality", ["scenes/swap_att"])["scenes/swap_att"]["text_acc"]
        for model in (setting.base, output / "model")
    ]
    return {**found, "swap": (swapped[0], swapped[1])}


def cost(setting: Setting) -> tuple[float, float]:
    """Seconds of encoding 256 pairs with false captions, and of the same with a fit of 50 epochs on them."""
    from patchclip import spec
    from patchclip.models.towers import load

    encoder = load(setting.base)
    images, captions = training_pairs(16 if setting.quick else 256, setting.seed)
    corruptor = spec.build("corruptors", "hard")
    false = [corruptor.corrupt(text, random.Random(i)) or text for i, text in enumerate(captions)]

    def encode() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        image, text = embedded(encoder, images, captions)
        return image, text, embedded(encoder, images[:1], false)[1]

    def fitted() -> object:
        return spec.build("adapt", METHOD).fit(*encode(), setting.generator())

    return interleaved(encode, fitted, 1 if setting.quick else 3)
