"""A folder of results as an evaluation of three models leaves it, with real pictures of the sample sets."""

from pathlib import Path
from typing import Any

import torch

from patchclip.contracts import BadSample
from patchclip.data.benchmarks import find_benchmarks, load_benchmark
from patchclip.data.sets import Retrieval
from patchclip.evaluation.result import Result, Samples

MODELS = ("runs/dense-0", "runs/pgs-0", "ViT-B-32:openai")
HOSTILE = '<script>alert("x")</script>'
KINDS = ("gaussian_noise", "motion_blur", "fog", "pixelate")
CATEGORIES = ("swap_obj", "swap_att", "add_obj")


def write_results(folder: Path, models: tuple[str, ...] = MODELS) -> Path:
    """Results of every task; scores rise with the model, the last one lacks a set."""
    for i, model in enumerate(models):
        results = [*classifications(i), *probes(i), *robustness(i), *selections(i)]
        if (found := retrieval(i)) is not None:
            results.append(found)
        if i == 2:
            results = [each for each in results if each.dataset != "zs_photo"]
        for result in results:
            full = Result(**{**vars(result), "model": model, "seconds": 1.5, "suite": "x"})
            full.save(folder, data_root="samples")
    (folder / "missing.json").write_text(
        f'[{{"asked": "wds/food101", "reason": "{HOSTILE.replace(chr(34), chr(39))}", "damaged": false}}]'
    )
    return folder


def coins(share: float, count: int = 200) -> Samples:
    values = (torch.rand(count, generator=torch.Generator().manual_seed(5)) < share).float()
    return Samples(values, torch.arange(count))


def classifications(i: int) -> list[Result]:
    found = []
    for j, name in enumerate(("zs_emoji", "zs_photo", "zs_clipart", "=zs_hostile")):
        share = 0.35 + 0.08 * i + 0.1 * j
        bins = [
            {
                "low": k / 10,
                "high": (k + 1) / 10,
                "count": 20,
                "confidence": k / 10 + 0.05,
                "accuracy": k / 13,
            }
            for k in range(2, 10)
        ]
        bins.append({"low": 0.0, "high": 0.1, "count": 0, "confidence": None, "accuracy": None})
        found.append(
            Result(
                dataset=name,
                task="zeroshot_classification",
                metrics={
                    "acc1": share,
                    "acc5": 0.9,
                    "mean_per_class_recall": share - 0.02,
                    "ece": 0.1 - 0.02 * i,
                },
                chance={"acc1": 1 / 16, "acc5": 5 / 16, "mean_per_class_recall": 1 / 16},
                images=160,
                classes=16,
                bad=(BadSample("test/0.tar/7", f"truncated {HOSTILE}"),) if j == 0 else (),
                clip_benchmark={"acc1": share + 0.01} if (i, j) == (1, 2) else {},
                protocol="zero-shot by 3 prompts a class, nearest mean text embedding",
                samples={"acc1": coins(share)},
                details={
                    "worst_classes": [
                        {"class": HOSTILE, "recall": 0.1, "images": 10, "taken_for": "dog", "times": 8},
                        {"class": "owl", "recall": 0.3, "images": 10},
                    ],
                    "confusion": {
                        "classes": ["cat", "dog", HOSTILE],
                        "counts": [[7, 2, 0, 1], [1, 8, 1, 0], [0, 8, 1, 1]],
                    },
                    "reliability": bins,
                },
            )
        )
    return found


def probes(i: int) -> list[Result]:
    found = []
    for k in (0, 1, 4, 16):
        share = 0.4 + 0.05 * i + 0.015 * k
        found.append(
            Result(
                dataset="zs_emoji",
                task=f"linear_probe_{k}shot" if k else "linear_probe",
                metrics={
                    "lp_acc1": share if k else 0.92,
                    "lp_acc5": 0.97,
                    "fewshot_k": float(k or -1),
                    "seed": 0.0,
                },
                chance={"lp_acc1": 1 / 16, "lp_acc5": 5 / 16},
                images=160,
                classes=16,
                protocol="linear probe on unit-length embeddings: logistic regression (L-BFGS)",
                details={"std": {"lp_acc1": 0.02}} if k else {},
            )
        )
    return found


def robustness(i: int) -> list[Result]:
    found = []
    for name, share in (("zs_clipart", 0.3), ("zs_emoji_lineart", 0.22)):
        own, reference = share + 0.06 * i, share + 0.2 + 0.05 * i
        metrics = {
            "acc1": own,
            "acc1_reference": reference,
            "drop": reference - own,
            "relative": own / reference,
        }
        details: dict[str, Any] = {"reference": "zs_emoji", "classes": 12}
        chance = {"acc1": 1 / 12, "acc1_reference": 1 / 12}
        protocol = "zero-shot top-1 among 12 of 16 classes"
        shared: dict[str, Any] = {"protocol": protocol, "details": details, "images": 120, "classes": 12}
        found.append(Result(name, "distribution_shift", metrics, chance, **shared))
    table = {k: [0.5 + 0.05 * i - 0.07 * s - 0.03 * j for s in range(5)] for j, k in enumerate(KINDS)}
    mean = sum(map(sum, table.values())) / 20
    corrupted = {"mean_corruption_accuracy": mean, "clean_accuracy": 0.6}
    chance = {"mean_corruption_accuracy": 1 / 16, "clean_accuracy": 1 / 16}
    details = {"severities": [1, 2, 3, 4, 5], "acc1": table}
    protocol = "zero-shot top-1 on 100 of 160 images under 4 kinds of corruption"
    shared = {"protocol": protocol, "details": details, "images": 100, "classes": 16}
    found.append(Result("zs_emoji", "corruption", corrupted, chance, **shared))
    written = {"acc1": 0.3, "acc1_clean": 0.6, "fooled": 0.4 - 0.1 * i, "fooled_clean": 0.1, "drop": 0.3}
    shared = {"protocol": "the name of a wrong class printed on 100 images", "images": 100, "classes": 16}
    found.append(Result("zs_emoji", "typographic", written, {"acc1": 1 / 16}, **shared))
    words = {"acc1_mean": 0.5 + 0.01 * i, "acc1_std": 0.03, "acc1_worst": 0.44, "agreement": 0.7}
    found.append(Result("zs_emoji", "paraphrase", words, {"acc1_mean": 1 / 16}, images=160, classes=16))
    return found


def retrieval(i: int) -> Result | None:
    """Recalls, and examples with true images and captions of a sample set."""
    names = [n for n in find_benchmarks("samples") if isinstance(load_benchmark("samples", n), Retrieval)]
    if not names:
        return None
    benchmark = load_benchmark("samples", names[0])
    assert isinstance(benchmark, Retrieval)
    captions = [benchmark.captions[k][0] for k in range(len(benchmark))]
    metrics = {
        f"{way}_retrieval_{metric}": value + 0.04 * i * (1 if value < 1 else -10)
        for way in ("image", "text")
        for metric, value in (
            *(("recall@1", 0.2), ("recall@5", 0.5), ("recall@10", 0.7)),
            *(("median_rank", 5.0), ("mean_rank", 12.3)),
        )
    }
    return Result(
        dataset=names[0],
        task="zeroshot_retrieval",
        metrics=metrics,
        chance={name: 0.05 for name in metrics if "recall" in name},
        images=len(benchmark),
        captions=sum(map(len, benchmark.captions)),
        protocol="every caption searches all images, every image all captions",
        details={
            "caption_to_images": [
                {"caption": captions[k], "image": k, "top": [k + 1, k + i % 2, 2, 3, 4], "rank": 2 + 5 * k}
                for k in (0, 5, 9)
            ],
            "image_to_captions": [
                {"image": k, "top": [[captions[k], True], [captions[k + 1], False]], "rank": 1}
                for k in (3, 6)
            ],
        },
    )


def selections(i: int) -> list[Result]:
    names = [n for n in find_benchmarks("samples") if isinstance(load_benchmark("samples", n), Retrieval)]
    found = []
    for j, category in enumerate(CATEGORIES):
        share = 0.52 + 0.1 * i + 0.04 * j
        row = {
            "image": j,
            "right": f"a dog beside {HOSTILE}",
            "wrong": "a cat",
            "chosen": "a cat",
            "margin": -0.03,
        }
        found.append(
            Result(
                dataset=f"{names[0] if names else 'none'}/{category}",
                task="image_caption_selection",
                metrics={"text_acc": share, "acc": share},
                chance={"text_acc": 0.5},
                clip_benchmark={"text_acc": 0.913} if (i, j) == (0, 0) else {},
                images=100,
                captions=200,
                protocol="the true one of 2 captions must be strictly closest to the image",
                samples={"text_acc": coins(share)},
                details={"blind": {"best": 0.98 if category == "add_obj" else 0.55}, "failing": [row]},
            )
        )
    return found
