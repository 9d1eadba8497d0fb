"""Every network on simulated logs whose truth is known, tuned alike: `python -m bench.network_quality`.

Each trains once with each of the same pairs of learning rates (RATES); the pair with the highest CTCVR AUC on
validation, contexts held out of the train split, is taken. Then it trains anew with each seed, scores the
test split and is evaluated. Writes bench/results/network_quality.{json,md}.

`din` attends to three histories with the impression's category, shop and brand, so each of these pairs of
fields shares a table. `mlp` is trained on these tables, too, with the histories pooled: what lies between
that and `din` is attention. Both once more without the demo's crosses, which say what an impression has in
common with a history before any network looks: then attention has to find it.

What was done is kept below bench/work/: the same command goes on from there.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import yaml

from bench.machine import describe_machine
from bench.measure import ROOT, measured_worker
from bench.network_contenders import CONTENDERS, VALIDATION_FRACTION, Contender, demo_content
from bench.verdicts import Values, collect, interval, mean
from bench.workspace import Workspace, say
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.sample_config import Paths
from esmm_spark.contracts.schemas.layout import METRICS_NAME, TEST_PARTITION, VERSIONS
from esmm_spark.files import storage
from esmm_spark.model.directory import find_model

# Pairs of learning_rate and embedding_learning_rate: the demo's, half, twice and four times as much.
RATES = ((0.001, 0.02), (0.002, 0.04), (0.004, 0.08), (0.008, 0.16))
COLUMNS = {
    "cvr_auc_entire_space": "CVR AUC, entire space",
    "cvr_auc_clicks": "CVR AUC, clicks",
    "ctcvr_auc": "CTCVR AUC",
    "ctr_auc": "CTR AUC",
}
ORACLE = "oracle"
_NAME = "network_quality"  # of the results
_SIMULATED_SEED = 0  # another log than the demo's and bench.quality's, which is 1's
_TUNING_SEED = 0
_CHOSEN_BY = "ctcvr_auc"
# What each is held against with the same seeds; `mlp` where nothing is said.
_BASES = {"mlp": None, "din": "mlp-shared", "mlp-no-crosses": None, "din-no-crosses": "mlp-no-crosses"}


class Experiment:
    """The runs of all networks.

    Args:
        workspace: where everything lies.
        num_groups: contexts of both splits.
        parallel: how many trainings run at a time.
    """

    def __init__(self, workspace: Workspace, num_groups: int, parallel: int) -> None:
        self.workspace, self.parallel = workspace, parallel
        self.raw = workspace.raw(20 * num_groups, "demo")
        self.folder = workspace.root / f"network-quality-{num_groups}"

    def choose(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Returns name -> the pair of rates that is best on validation, and what all gave."""
        runs = [(name, rates) for name in names for rates in RATES]
        say(f"network_quality: {len(runs)} runs with {len(RATES)} pairs of learning rates")
        arguments = [self._arguments(name, rates, _TUNING_SEED) for name, rates in runs]
        self._train(arguments)
        found: dict[str, dict[str, Any]] = {name: {"validation": []} for name in names}
        for (name, rates), own in zip(runs, arguments, strict=True):
            version = Path(find_model(_paths(own).model))
            value = json.loads((version / METRICS_NAME).read_text())[_CHOSEN_BY]
            found[name]["validation"].append([*rates, value])
        for content in found.values():
            content["rates"] = max(content["validation"], key=lambda tried: tried[2])[:2]
        return found

    def measure(self, rates: dict[str, tuple[float, float]], seeds: Sequence[int]) -> dict[str, Values]:
        """Returns name -> metric -> the value of each seed on the test split, and those of the oracle."""
        say(f"network_quality: {len(rates)} networks with {len(seeds)} seeds")
        runs = [(name, seed) for name in rates for seed in seeds]
        arguments = [self._arguments(name, rates[name], seed) for name, seed in runs]
        self._train(arguments)
        self._run("jobs/score.py", [own for own in arguments if not _is_scored(own)])
        self._run("jobs/evaluate.py", [own for own in arguments if not _report(own).exists()])
        by_run = []
        for (name, _), own in zip(runs, arguments, strict=True):
            metrics = json.loads(_report(own).read_text())["metrics"]
            series = {name: metrics["model"], ORACLE: metrics["oracle"]}
            by_run.append({key: {c: of[c]["value"] for c in COLUMNS} for key, of in series.items()})
        return collect(by_run)

    def _train(self, arguments: list[list[str]]) -> None:
        """Trains what isn't trained yet, several at a time, each with one thread."""
        left = [own for own in arguments if not _is_trained(own)]
        with ThreadPoolExecutor(self.parallel) as pool:
            shares = [left[first :: self.parallel] for first in range(self.parallel)]
            list(pool.map(lambda share: self._run("esmm_spark/train.py", share), shares))

    def _run(self, script: str, arguments: list[list[str]]) -> None:
        """Runs a command with each list of arguments."""
        if not arguments:
            return
        first = Path(_paths(arguments[0]).model).parent.name
        log = self.workspace.log(f"network-quality-{Path(script).stem}-{first}")
        with NamedTemporaryFile("w", suffix=".json") as listed:
            json.dump(arguments, listed)
            listed.flush()
            measured_worker("bench.workers.runs_in_turn", [script, listed.name], log, timeout_s=4 * 3600)

    def _arguments(self, name: str, rates: tuple[float, float], seed: int) -> list[str]:
        contender = CONTENDERS[name]
        run = self.folder / f"{name}-{rates[0]:g}-{rates[1]:g}-{seed}"
        return [
            "--config",
            str(self._config(contender)),
            f"model.network={contender.network}",
            f"train.learning_rate={rates[0]}",
            f"train.embedding_learning_rate={rates[1]}",
            f"train.seed={seed}",
            "train.threads=1",
            "train.tensorboard=false",
            *(f"paths.{part}={run / part}" for part in ("model", "scores", "report")),
        ]

    def _config(self, contender: Contender) -> Path:
        """Returns a config whose dataset is there."""
        name = contender.histories + ("" if contender.crosses else "-no-crosses")
        path = self.folder / f"{name}.yaml"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            content = demo_content(self.raw, self.folder / name, contender)
            path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return self.workspace.preprocessed(path)


def _paths(arguments: list[str]) -> Paths:
    """Returns the paths of a run."""
    return load_config(arguments[1], arguments[2:]).paths


def _is_trained(arguments: list[str]) -> bool:
    return storage.exists(storage.join(_paths(arguments).model, VERSIONS))


def _is_scored(arguments: list[str]) -> bool:
    return storage.is_complete(storage.join(_paths(arguments).scores, TEST_PARTITION))


def _report(arguments: list[str]) -> Path:
    return Path(_paths(arguments).report) / "metrics.json"


def table(found: dict[str, Values], rates: dict[str, Sequence[float]]) -> str:
    """Returns the metrics as a markdown table: mean and 95% interval over the seeds."""
    lines = [f"| | {' | '.join(COLUMNS.values())} | learning rates |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name in [*CONTENDERS, ORACLE]:
        if name not in found:
            continue
        if name == ORACLE:
            cells = [f"{mean(found[name][key]):.4f}" for key in COLUMNS] + [""]
        else:
            cells = [f"{mean(found[name][key]):.4f} ± {interval(found[name][key]):.4f}" for key in COLUMNS]
            cells.append(", ".join(f"{rate:g}" for rate in rates[name]))
        lines.append(f"| {CONTENDERS[name].title if name in CONTENDERS else name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def differences(found: dict[str, Values]) -> list[str]:
    """Returns a line for each network: what it has over another with the same seeds."""
    lines = []
    for name in found:
        base = _BASES.get(name, "mlp")
        if name == ORACLE or base not in found:
            continue
        texts = []
        for key in ("cvr_auc_entire_space", "cvr_auc_clicks", "ctcvr_auc"):
            pairs = zip(found[name][key], found[base][key], strict=True)
            gains = [ours - theirs for ours, theirs in pairs]
            texts.append(f"{COLUMNS[key]} {mean(gains):+.4f} ± {interval(gains):.4f}")
        lines.append(f"- {CONTENDERS[name].title} - {CONTENDERS[base].title}: {', '.join(texts)}")
    return lines


def write_results(
    folder: Path, found: dict[str, Values], chosen: dict[str, dict[str, Any]], options: dict[str, Any]
) -> None:
    """Writes the results as JSON and as markdown, and prints the latter."""
    machine = describe_machine()
    content = {"machine": machine, "options": options, "tuning": chosen, "values": found}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{_NAME}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    seeds = ", ".join(map(str, options["seeds"]))
    lines = [
        "# Quality of the networks",
        "",
        f"Simulated logs, demo preset, {options['num_groups']:,} groups, seeds {seeds}, commit "
        f"{machine['commit']}: mean ± 95% interval (t) over seeds of training. Of {len(RATES)} pairs of "
        f"learning rates (dense, rows) the best on validation, {VALIDATION_FRACTION:.0%} of the train "
        f"split's contexts, by CTCVR AUC.",
        "",
        table(found, {name: own["rates"] for name, own in chosen.items()}),
        "With the same seeds:",
        "",
        *differences(found),
    ]
    text = "\n".join(lines) + "\n"
    (folder / f"{_NAME}.md").write_text(text, encoding="utf-8")
    print(text)


def main() -> int:
    """Runs the experiment."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.network_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--groups", type=int, default=60_000, help="contexts, 20 impressions each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of training; two or more")
    parser.add_argument("--networks", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--parallel", type=int, default=2, help="trainings at a time, one thread each")
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "work")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    arguments = parser.parse_args()
    workspace = Workspace(arguments.work.resolve(), 20 * arguments.groups, _SIMULATED_SEED)
    experiment = Experiment(workspace, arguments.groups, arguments.parallel)
    chosen = experiment.choose(arguments.networks)
    found = experiment.measure({name: own["rates"] for name, own in chosen.items()}, arguments.seeds)
    options = {"num_groups": arguments.groups, "seeds": arguments.seeds}
    write_results(arguments.results, found, chosen, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
