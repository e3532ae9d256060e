"""Are words behind the context read? Held-out captions stand behind a sentence that fills the 16 tokens of
the base ("late"), or in front of one ("early"), or alone ("short"); recall@5 among the held-out pairs, both
ways. In "joined" the three or so captions of 200 training pairs, one behind the other, are the text. Without:
the text is cut off at 16 tokens. With: windows of 16 tokens that share 7, their embeddings averaged. Nothing
is trained.
"""

from experiments._frame import Measure, Setting, embedded, held_out, interleaved
from experiments._long_captions import embedded_texts, joined, lengthened, recall

TITLE = "ClipMD"
PAGE = "context/clipmd.md"
MEASURES = {
    "late": Measure("recall@5, caption behind a sentence"),
    "early": Measure("recall@5, caption in front of a sentence"),
    "joined": Measure("recall@5, all captions of a training pair joined"),
    "short": Measure("recall@5, caption alone"),
}


def run(setting: Setting) -> dict[str, tuple[float, float]]:
    """See the docstring of this file."""
    from patchclip.models.towers import load

    cut_off, windows = load(setting.base), load(setting.base, context="clipmd")
    images, captions = held_out(30 if setting.quick else None)
    short = [some[0] for some in captions]
    held, _ = embedded(cut_off, images, short)
    pictures, whole = joined(30 if setting.quick else 200, setting.seed)
    cases = {
        "late": (held, lengthened(short, setting.seed)),
        "early": (held, lengthened(short, setting.seed, late=False)),
        "joined": (embedded(cut_off, pictures, whole)[0], whole),
        "short": (held, short),
    }
    found = {}
    for name, (image, texts) in cases.items():
        before, after = (recall(image, embedded_texts(each, texts)) for each in (cut_off, windows))
        found[name] = before, after
    return found


def cost(setting: Setting) -> tuple[float, float]:
    """Encoding the late captions."""
    from patchclip.models.towers import load

    cut_off, windows = load(setting.base), load(setting.base, context="clipmd")
    texts = lengthened([some[0] for some in held_out(30 if setting.quick else None)[1]], setting.seed)
    rows = cut_off.tokenizer(texts), windows.tokenizer(texts)
    rounds = 1 if setting.quick else 3
    return interleaved(lambda: cut_off.encode_text(rows[0]), lambda: windows.encode_text(rows[1]), rounds)
