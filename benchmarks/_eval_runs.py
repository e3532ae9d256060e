"""The runs that eval_speed.py times: an evaluation and an encode, by clip_benchmark and by patchclip.

PYTHON _eval_runs.py PLAN.json     embeds images with patchclip, in a process of its own
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _clip_benchmark import Peer, Timing, command, timed
from _repeated import repeated

SUITES = "classification,retrieval,linear-probe:solver=sgd"
BATCH = 64
REPEATS = 3
"""Times that an encode is repeated in its process; the median counts."""


@dataclass(frozen=True)
class Bench:
    """Data, model and peer of one run of this script.

    Args:
        peer: clip_benchmark.
        model: checkpoint folder.
        root: folder of the sets.
        classification: three sets; the last has train and val splits, too.
        retrieval: a set.
        work: folder for results.
    """

    peer: Peer
    model: Path
    root: Path
    classification: list[str]
    retrieval: str
    work: Path

    def fresh(self, name: str) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(prefix=name, dir=self.work))

    def theirs(self, workers: int, together: bool = False) -> Timing:
        """The evaluation by clip_benchmark: three commands as it takes them, or `together` in a process."""
        output = self.fresh("theirs")

        def call(datasets: list[str], *more: str) -> list[str]:
            names = [f"wds/{name}" for name in datasets]
            options = ("--quiet", *more)
            return command(self.model, self.root, names, output, *options, batch_size=BATCH, workers=workers)

        probe = ("--task", "linear_probe", "--train_split", "train", "--val_split", "val")
        commands = [
            call(self.classification),
            call([self.retrieval], "--task", "zeroshot_retrieval", "--recall_k", "1", "5", "10"),
            call(self.classification[-1:], *probe, "--feature_root", str(output / "features")),
        ]
        if together:
            return self.peer.run(commands)[0]
        times = [self.peer.run([each])[0] for each in commands]
        return Timing(sum(each.wall for each in times), sum(each.cpu for each in times))

    def ours(self, cache: Path, *more: str) -> Timing:
        """The evaluation by patchclip."""
        names = ",".join([*self.classification, self.retrieval])
        arguments = [
            *(sys.executable, "-m", "patchclip", "eval", "--model", str(self.model), "--suite", SUITES),
            *("--data-root", str(self.root), "--datasets", names, "--cache", str(cache)),
            *("--output", str(self.fresh("ours"))),
        ]
        return timed([*arguments, *more], self.work / "ours.txt")

    def encode_theirs(self, workers: int) -> dict[str, Any]:
        """Images and seconds of clip_benchmark's loop over the images."""
        plan = self.plan() | {"model": f"local-dir:{self.model}", "num_workers": workers}
        found: dict[str, Any] = self.peer.run([], plan)[1]["encode"]
        return found

    def encode_ours(self) -> dict[str, Any]:
        """Images and seconds of patchclip's, in a process of its own."""
        plan, result = self.work / "encode.json", self.work / "encoded.json"
        plan.write_text(json.dumps(self.plan() | {"result": str(result)}), encoding="utf-8")
        timed([sys.executable, __file__, str(plan)], self.work / "encode.txt")
        found: dict[str, Any] = json.loads(result.read_text("utf-8"))
        return found

    def plan(self) -> dict[str, Any]:
        """What both encode."""
        config = json.loads((self.model / "open_clip_config.json").read_text("utf-8"))
        return {
            "model": str(self.model),
            "width": config["model_cfg"]["embed_dim"],
            "root": str(self.root),
            "datasets": self.classification,
            "batch_size": BATCH,
            "repeats": REPEATS,
        }


def encode(plan: dict[str, Any]) -> dict[str, Any]:
    """Seconds that patchclip takes to embed the images of the sets, model and imports not counted."""
    import patchclip
    from patchclip.data.benchmarks import load_benchmark
    from patchclip.evaluation.embedder import Embedder, Encoding

    encoder = patchclip.load(plan["model"])

    def once(name: str) -> int:
        benchmark = load_benchmark(plan["root"], name)
        embedder = Embedder(encoder, Encoding(batch_size=plan["batch_size"]))
        return len(embedder.images(benchmark.images, name).indices)

    return repeated(once, plan["datasets"], plan["repeats"])


def main() -> None:
    """Embeds what the plan names and writes how long that took."""
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    Path(plan["result"]).write_text(json.dumps(encode(plan)), encoding="utf-8")


if __name__ == "__main__":
    main()
