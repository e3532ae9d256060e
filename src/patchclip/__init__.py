"""patchclip: making CLIP see patch by patch.

The names below are all there is to know at first; each is imported when it is first used, so that
`import patchclip` stays quick and loads neither torch nor open_clip.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from patchclip.config import TrainConfig, load_config, save_config
    from patchclip.contracts import Encoder, Masker, Patches
    from patchclip.data.pairs import open_pairs
    from patchclip.dense.segment import segment
    from patchclip.dense.segmenter import Segmenter
    from patchclip.engine.train import train
    from patchclip.errors import PatchclipError
    from patchclip.evaluation._runner import evaluate
    from patchclip.evaluation.compare import compare
    from patchclip.evaluation.embedder import Encoding
    from patchclip.models.masked import preview
    from patchclip.models.towers import load
    from patchclip.registry import build
    from patchclip.report.mask_sheet import mask_sheet
    from patchclip.report.run_report import write_report

__version__ = "0.1.0"

_HOME = {
    "Encoder": "contracts",
    "Encoding": "evaluation.embedder",
    "Masker": "contracts",
    "PatchclipError": "errors",
    "Patches": "contracts",
    "Segmenter": "dense.segmenter",
    "TrainConfig": "config",
    "build": "registry",
    "compare": "evaluation.compare",
    "evaluate": "evaluation._runner",
    "load": "models.towers",
    "load_config": "config",
    "mask_sheet": "report.mask_sheet",
    "open_pairs": "data.pairs",
    "preview": "models.masked",
    "save_config": "config",
    "segment": "dense.segment",
    "train": "engine.train",
    "write_report": "report.run_report",
}

__all__ = [
    "Encoder",
    "Encoding",
    "Masker",
    "PatchclipError",
    "Patches",
    "Segmenter",
    "TrainConfig",
    "__version__",
    "build",
    "compare",
    "evaluate",
    "load",
    "load_config",
    "mask_sheet",
    "open_pairs",
    "preview",
    "save_config",
    "segment",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
