"""Is a closed-form Gaussian classifier beside the zero-shot one worth its milliseconds on a small CLIP?
Without: zero-shot. With: GDA on 4 images of each class, on all training images, and on 4 images of half of
the classes, asked for the classes without images. alpha is chosen as the command chooses it, on other
training images; the shots are those of the seed. The linear probe on the same shots is logistic regression
with the best C on the same images. The cost is that of encoding the test images and shots, without and with
the fit.
"""

import torch

from experiments._frame import Measure, Setting, interleaved

TITLE = "GDA"
PAGE = "adapt/gda.md"
MEASURES = {
    "four": Measure("zs_clipart, 4 images a class"),
    "all": Measure("zs_clipart, all training images"),
    "furniture": Measure("zs_furniture, 4 images a class"),
    "new": Measure("zs_clipart, classes without images"),
}
CASES = {"four": ("zs_clipart", 4, 0.0), "all": ("zs_clipart", 0, 0.0), "furniture": ("zs_furniture", 4, 0.0)}


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """Accuracy zero-shot and with GDA."""
    from patchclip.engine.adapting.run import adapt
    from patchclip.engine.adapting.settings import Settings
    from patchclip.evaluation.embedder import Encoding
    from patchclip.models.towers import load

    encoder, encoding = load(setting.base), Encoding(cache=setting.folder / "embeddings")
    cases = {"furniture": CASES["furniture"]} if setting.quick else CASES | {"new": ("zs_clipart", 4, 0.5)}
    found = {}
    for name, (dataset, shots, new) in cases.items():
        settings = Settings(shots=shots, seeds=1, first_seed=setting.seed, new_classes=new)
        rows = adapt(encoder, dataset, "gda", settings, encoding=encoding).rows
        row = rows[1] if new else rows[0]
        found[name] = (row.zero_shot[0], row.adapted[0])
    return found


def cost(setting: Setting) -> tuple[float, float]:
    """Seconds of encoding 104 shots and 32 images, and of these with the fit and the scores."""
    from patchclip.adapt.methods.gda import GDA
    from patchclip.models.towers import load

    encoder = load(setting.base)
    side, count = encoder.image_size, 16 if setting.quick else 104
    pixels = torch.rand(count + 32, 3, side, side, generator=setting.generator())
    labels = torch.arange(26).repeat(4)[:count] % max(2, count // 4)
    texts = encoder.encode_text(encoder.tokenizer([f"class {i}" for i in range(26)]))

    def encode() -> torch.Tensor:
        return encoder.encode_image(pixels) @ texts.T

    def adapted() -> torch.Tensor:
        rows = encoder.encode_image(pixels)
        return GDA(alpha=1.0).fit(rows[:count], labels, texts, encoder.scale).decision_function(rows)

    return interleaved(encode, adapted, 1 if setting.quick else 5)
