"""ESMM against BASE on simulated logs whose truth is known: `python -m bench.quality`.

Simulates and preprocesses once, then for every seed trains both models, scores the test split and evaluates,
all by the five public commands. Beside them ESMM is trained with `train.bf16`, and without anything that
makes it fast. Writes bench/results/quality.{json,md} and ends with exit code 1 unless

- ESMM's CVR AUC over the entire space is above BASE's by more than the spread over the seeds,
- the calibration ratios of its pCTR and pCTCVR are within 0.9 and 1.1 for every seed,
- its AUCs, and those with `train.bf16`, are those of the unoptimised path within the spread over the seeds.

The spread is the larger of the two ranges (largest less smallest over the seeds).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.machine import describe_machine
from bench.measure import ROOT, measured_worker
from bench.verdicts import COLUMNS, Values, collect, judge, table
from bench.workspace import EVALUATE, PREPROCESS, SCORE, SIMULATE, TRAIN, Workspace, horovodrun, say

# What is trained, and by which settings.
_MODELS: dict[str, list[str]] = {"esmm": [], "bf16": ["train.bf16=true"], "base": ["model.objective=base"]}


class Experiment:
    """The commands of one run.

    Args:
        workspace: where everything lies.
        num_groups: contexts of both splits.
        ranks: of training.
    """

    def __init__(self, workspace: Workspace, num_groups: int, ranks: int) -> None:
        self.workspace, self.num_groups, self.ranks = workspace, num_groups, ranks
        self.folder = workspace.clear(f"quality-{num_groups}")
        self.raw = self.folder / "raw"
        self.common = [
            f"paths.dataset={self.folder / 'dataset'}",
            *(
                f"logs.splits.{split}.{kind}={self.raw / f'{name}_{split}'}"
                for split in ("train", "test")
                for kind, name in (("skeleton", "sample_skeleton"), ("common_features", "common_features"))
            ),
        ]

    def prepare(self) -> None:
        """Simulates and preprocesses."""
        say(f"quality: simulating {self.num_groups:,} groups")
        flags = ["--output", str(self.raw), "--num-groups", str(self.num_groups)]
        self._run("simulate", [*SIMULATE, *flags, "--seed", str(self.workspace.seed), "--preset", "demo"])
        self._run("preprocess", [*PREPROCESS, "--config", "conf/demo.yaml", *self.common])

    def seed(self, seed: int) -> dict[str, dict[str, float]]:
        """Returns series -> metric -> value of one seed."""
        for model in _MODELS:
            say(f"quality: seed {seed}, {model}")
            arguments = ["--config", "conf/demo.yaml", *self._of(model, seed)]
            self._run(f"train-{model}", [*horovodrun(self.ranks), *TRAIN, *arguments])
            self._run(f"score-{model}", [*SCORE, *arguments])
        found = self._evaluate("esmm", seed, str(self.folder / f"scores-base-{seed}"))
        return {**found, "bfloat16": self._evaluate("bf16", seed, "null")["model"]}

    def _evaluate(self, model: str, seed: int, baseline: str) -> dict[str, dict[str, float]]:
        """Returns series -> metric -> value of a model's report beside a baseline's scores, or `null`."""
        options = [
            f"evaluate.truth={self.raw / 'truth.parquet'}",
            f"evaluate.baseline_scores={baseline}",
            "evaluate.bootstrap_samples=0",
        ]
        arguments = ["--config", "conf/demo.yaml", *self._of(model, seed), *options]
        self._run(f"evaluate-{model}", [*EVALUATE, *arguments])
        report = self.folder / f"report-{model}-{seed}" / "metrics.json"
        return {
            series: {key: content[key]["value"] for key in COLUMNS if key in content}
            for series, content in json.loads(report.read_text())["metrics"].items()
        }

    def unoptimised(self, seed: int) -> dict[str, float]:
        """Returns metric -> value of the unoptimised path."""
        say(f"quality: seed {seed}, unoptimised path")
        found, _ = measured_worker(
            "bench.workers.unoptimised",
            ["conf/demo.yaml", *self._of("esmm", seed)],
            self.workspace.log("quality-unoptimised"),
        )
        found["cvr_auc_clicks"] = found.pop("cvr_auc")
        return {key: found[key] for key in COLUMNS if key in found}

    def _of(self, model: str, seed: int) -> list[str]:
        return [
            *self.common,
            *_MODELS[model],
            f"train.seed={seed}",
            "train.resume=false",
            f"paths.model={self.folder / f'model-{model}-{seed}'}",
            f"paths.scores={self.folder / f'scores-{model}-{seed}'}",
            f"paths.report={self.folder / f'report-{model}-{seed}'}",
        ]

    def _run(self, step: str, command: list[str]) -> None:
        self.workspace.run(f"quality-{step}", command)


def write_results(folder: Path, found: dict[str, Values], options: dict[str, Any]) -> bool:
    """Writes quality.json and quality.md, prints the latter, and returns whether all that is asked is so."""
    verdicts = judge(found)
    machine = describe_machine()
    content = {"machine": machine, "options": options, "values": found, "verdicts": verdicts}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quality.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    lines = [f"- {'yes' if good else '**no**'}: {text}" for text, good in verdicts]
    seeds = ", ".join(map(str, options["seeds"]))
    text = (
        f"# Quality\n\nSimulated logs, demo preset, {options['num_groups']:,} groups, seeds {seeds}, "
        f"commit {machine['commit']}: mean ± half the range over seeds.\n\n"
    )
    text += table(found) + "\n" + "\n".join(lines) + "\n"
    (folder / "quality.md").write_text(text, encoding="utf-8")
    print(text)
    return all(good for _, good in verdicts)


def main() -> int:
    """Runs the experiment; returns 1 if something that is asked isn't so."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--groups", type=int, default=60_000, help="contexts, 20 impressions each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of training")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--skip-unoptimised", action="store_true", help="leave out the unoptimised path")
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "work")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    arguments = parser.parse_args()
    experiment = Experiment(Workspace(arguments.work.resolve(), 0), arguments.groups, arguments.ranks)
    experiment.prepare()
    by_seed = []
    for seed in arguments.seeds:
        metrics = experiment.seed(seed)
        if not arguments.skip_unoptimised:
            metrics["unoptimised"] = experiment.unoptimised(seed)
        by_seed.append(metrics)
    options = {"num_groups": arguments.groups, "seeds": arguments.seeds, "ranks": arguments.ranks}
    return int(not write_results(arguments.results, collect(by_seed), options))


if __name__ == "__main__":
    sys.exit(main())
