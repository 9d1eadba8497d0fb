"""The commands that faults hit, each on small simulated logs, and what lies where they write before."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import yaml

from bench.measure import ROOT
from bench.workspace import EVALUATE, PREPROCESS, SCORE, SIMULATE, TRAIN, Workspace, horovodrun, say
from esmm_spark.contracts.config_file import load_config

_GROUPS = 1500
_EVENT_GROUPS = 200
_DAYS = ("2026-11-20", "2026-11-21", "2026-11-22")


@dataclass(frozen=True)
class Scenario:
    """A command that writes one folder.

    Attributes:
        name: as the results have it.
        writes: the name of the folder that it writes.
        command: a folder for its output -> its command line.
        before: what lies in that folder before it begins; None for nothing.
    """

    name: str
    writes: str
    command: Callable[[Path], Sequence[str]]
    before: Path | None = None

    def prepare(self, folder: Path) -> None:
        """Empties `folder` and puts there what lay there before."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if self.before is not None:
            shutil.copytree(self.before, folder / self.writes)


class Inputs:
    """What the commands read, made once below `workspace.root`/faults-inputs.

    Args:
        workspace: where all of it lies.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.root = workspace.root / "faults-inputs"

    def scenarios(self) -> list[Scenario]:
        """Returns all of them; their inputs are there then."""
        first, second = self._raw(1), self._raw(2)
        ours = self._made("first", "dataset", [*PREPROCESS, *self._demo(first)])
        other = self._made("second", "dataset", [*PREPROCESS, *self._demo(second)])
        model = self._trained("model", ours, 1)
        older_model = self._trained("older-model", ours, 2)
        older_scores = self._made("older-scores", "scores", self._score(ours, older_model))
        scores = self._made("scores-of-model", "scores", self._score(ours, model))
        report = self._made("older-report", "report", self._evaluate(first, older_scores))
        events = self._events_config()
        days = self._days(events)
        third_day = ["--ds", _DAYS[2], "--as-of", "2026-11-23T00:00:00", "--backfill"]
        return [
            Scenario("simulate", "raw", lambda to: self._simulate(to / "raw", 1, "raw", _GROUPS)),
            Scenario(
                "preprocess",
                "dataset",
                lambda to: [*PREPROCESS, *self._demo(first), _in(to, "dataset")],
                other,
            ),
            Scenario(
                "events, with backfill",
                "dataset",
                lambda to: [*PREPROCESS, "--config", str(events), *third_day, _in(to, "dataset")],
                days,
            ),
            Scenario("train, 1 rank", "model", lambda to: [*TRAIN, *_training(ours, 1), _in(to, "model")]),
            Scenario(
                "train, 2 ranks",
                "model",
                lambda to: [*horovodrun(2), *TRAIN, *_training(ours, 1), _in(to, "model")],
            ),
            Scenario(
                "score",
                "scores",
                lambda to: [*self._score(ours, model), "--force", _in(to, "scores")],
                older_scores,
            ),
            Scenario(
                "evaluate", "report", lambda to: [*self._evaluate(first, scores), _in(to, "report")], report
            ),
        ]

    def _made(self, name: str, part: str, command: Sequence[str]) -> Path:
        """Returns the folder that `command` writes as its `paths.<part>`."""
        return self._done(self.root / name, part, [*command, _in(self.root / name, part)])

    def _done(self, folder: Path, part: str, *commands: Sequence[str]) -> Path:
        """Returns what `commands` write as `part` of `folder`, which they do once."""
        done = folder / ".done"
        if not done.exists():
            say(f"faults: preparing {folder.name}")
            shutil.rmtree(folder, ignore_errors=True)
            for command in commands:
                self.workspace.run(f"faults-{folder.name}", command)
            done.touch()
        return folder / part

    def _raw(self, seed: int) -> Path:
        folder = self.root / f"raw-{seed}"
        return self._done(folder, "raw", self._simulate(folder / "raw", seed, "raw", _GROUPS))

    def _events_config(self) -> Path:
        """Returns conf/events.yaml over event logs of four days."""
        folder = self.root / "events"
        raw = self._done(folder, "raw", self._simulate(folder / "raw", 1, "events", _EVENT_GROUPS))
        content = load_config(str(ROOT / "conf" / "events.yaml")).model_dump(mode="json", exclude_unset=True)
        events = content["logs"]["events"]
        for log in (events["impressions"], events["clicks"], events["conversions"], *events["catalogs"]):
            log["path"] = str(raw / Path(log["path"]).name)
        config = folder / "events.yaml"
        config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return config

    def _days(self, config: Path) -> Path:
        """Returns a dataset of the first two days, each as of its end."""
        folder = self.root / "days"
        command = [*PREPROCESS, "--config", str(config), _in(folder, "dataset")]
        return self._done(
            folder,
            "dataset",
            *([*command, "--ds", day, "--as-of", f"{end}T00:00:00"] for day, end in pairwise(_DAYS)),
        )

    def _trained(self, name: str, dataset: Path, seed: int) -> Path:
        return self._made(name, "model", [*TRAIN, *_training(dataset, seed)])

    @staticmethod
    def _simulate(output: Path, seed: int, log_format: str, groups: int) -> list[str]:
        form = ["--format", "events"] if log_format == "events" else []
        size = ["--num-groups", str(groups), "--seed", str(seed), "--preset", "demo"]
        return [*SIMULATE, *form, "--output", str(output), *size]

    @staticmethod
    def _demo(raw: Path) -> list[str]:
        files = (("skeleton", "sample_skeleton"), ("common_features", "common_features"))
        return [
            "--config",
            str(ROOT / "conf" / "demo.yaml"),
            *(
                f"logs.splits.{split}.{kind}={raw / name}_{split}"
                for split in ("train", "test")
                for kind, name in files
            ),
        ]

    @staticmethod
    def _score(dataset: Path, model: Path) -> list[str]:
        paths = [f"paths.dataset={dataset}", f"paths.model={model}"]
        return [*SCORE, "--config", str(ROOT / "conf" / "demo.yaml"), *paths]

    @staticmethod
    def _evaluate(raw: Path, scores: Path) -> list[str]:
        read = [f"paths.scores={scores}", f"evaluate.truth={raw / 'truth.parquet'}"]
        config = ["--config", str(ROOT / "conf" / "demo.yaml"), "evaluate.baseline_scores=null"]
        return [*EVALUATE, *config, *read]


def _training(dataset: Path, seed: int) -> list[str]:
    options = ["train.epochs=2", f"train.seed={seed}", "train.checkpoint_every_steps=5", "train.threads=1"]
    more = ["train.stall_timeout_s=60", "train.tensorboard=false", f"paths.dataset={dataset}"]
    return ["--config", str(ROOT / "conf" / "demo.yaml"), *options, *more]


def _in(folder: Path, part: str) -> str:
    return f"paths.{part}={folder / part}"
