"""Writes docs/results.md from the figures in benchmarks/results/.

python -m tools.results_page
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "results.md", ROOT / "benchmarks" / "results"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def step_time(content: dict[str, Any]) -> str:
    """The table of step times."""
    rows = [
        [
            name,
            "/".join(map(str, row["kept"]))
            if len(row["kept"]) < 3
            else f"{row['kept'][0]}-{row['kept'][-1]}",
            f"{row['median_s']:.2f}",
            f"{row['over_dense']:.3f}",
            " - ".join(f"{value:.3f}" for value in row["over_dense_min_max"]),
            f"{row['flop_limit']:.3f}",
            f"{row['over_flop_limit']:.3f}",
        ]
        for name, row in content["variants"].items()
    ]
    header = ["mask", "patches kept", "seconds a step", "over dense", "min - max", "FLOP limit", "over limit"]
    return table(header, rows)


def pretraining(content: dict[str, Any]) -> str:
    """The table of equal epochs: mean and standard deviation over seeds."""
    columns = list(next(iter(content["table"].values())))
    rows = [
        [name, *(f"{row[column]['mean']:.2f} ± {row[column]['std']:.2f}" for column in columns)]
        for name, row in content["table"].items()
    ]
    chance = content["chance"]
    guess = ["guessing", *(f"{chance[column]:.2f}" if column in chance else "" for column in columns)]
    return table(["method", *columns], [*rows, guess])


def foreground(content: dict[str, Any]) -> str:
    """The table of kept foregrounds."""
    columns = ["mean", "standard_error", "smooth", "textured", "p5"]
    rows = [[name, *(f"{row[c]:.3f}" for c in columns)] for name, row in content["maskers"].items()]
    header = ["mask", "kept", "standard error", "on photographs", "on textures", "5th percentile"]
    return table(header, rows)


def attention(content: dict[str, Any]) -> str:
    """The table of attention kernels."""
    ratios = content["ratios"]
    lengths = [key.split()[1] for key in ratios if key.startswith("fp32")]
    rows = [[kind, *(f"{ratios[f'{kind} {n}']:.2f}" for n in lengths)] for kind in ("fp32", "bf16")]
    return table(["tokens", *lengths], rows)


def render() -> str:
    """The page."""
    figures = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")}
    text = (Path(__file__).parent / "results_page.md").read_text(encoding="utf-8")
    steps, study = figures["step_time"], figures["pretraining"]
    values = {
        "step_time": step_time(steps),
        "step_machine": f"{steps['cores']} cores, {steps['threads']} threads, torch {steps['torch']}, "
        f"{steps['precision']}, {steps['rounds']} rounds",
        "pgs_over_random": f"{steps['pgs_over_random']:.3f}",
        "mask_ms": f"{steps['mask_alone_ms']:.0f}",
        "mask_share": f"{100 * steps['mask_share']:.1f}",
        "pretraining": pretraining(study),
        "epochs": str(study["epochs"]),
        "seeds": str(study["seeds"]),
        "foreground": foreground(figures["foreground"]),
        "composites": str(figures["foreground"]["composites"]),
        "attention": attention(figures["attention"]),
    }
    for name, value in values.items():
        text = text.replace("{{ " + name + " }}", value)
    return text


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
