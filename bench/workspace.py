"""The data that stages share, below bench/work, made once and kept.

    raw/<preset>-<groups>-<seed>/          jobs/simulate.py
    conf/<name>.yaml                       conf/aliccp.yaml with other paths, tables or fields
    <name>/dataset, <name>/model, ...      the folders of that config
    logs/<step>.log                        the output of every measured command
    peers-venv/                            bench/peers/requirements.txt

A folder is used again when it is complete; `make clean` deletes all of it.
"""

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.measure import ROOT, Usage, measured
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.simulation.presets import preset_named

SPARK_SUBMIT = ("spark-submit",)
# The five commands as users type them, without their arguments.
SIMULATE = (*SPARK_SUBMIT, "jobs/simulate.py")
PREPROCESS = (*SPARK_SUBMIT, "jobs/preprocess.py")
SCORE = (*SPARK_SUBMIT, "jobs/score.py")
EVALUATE = (*SPARK_SUBMIT, "jobs/evaluate.py")
TRAIN = ("python", "esmm_spark/train.py")


def horovodrun(num_ranks: int) -> tuple[str, ...]:
    """Returns the launcher of `num_ranks` ranks on this host."""
    return ("horovodrun", "-np", str(num_ranks))


def torchrun(num_ranks: int) -> tuple[str, ...]:
    """Returns the launcher of `num_ranks` ranks of torch.distributed on this host, to stand before python."""
    return ("torchrun", "--standalone", f"--nproc-per-node={num_ranks}", "--no-python")


@dataclass(frozen=True)
class Workspace:
    """Where the bench works and how large its data is.

    Args:
        root: the folder, usually bench/work.
        impressions: about how many impressions the stages measure with.
        seed: of the simulator.
    """

    root: Path
    impressions: int
    seed: int = 1

    def log(self, step: str) -> Path:
        """Returns where the output of a step goes."""
        return self.root / "logs" / f"{step.replace('/', '-').replace(' ', '-')}.log"

    def raw(self, impressions: int, preset: str = "aliccp") -> Path:
        """Returns the folder of about `impressions` simulated impressions, both splits together."""
        groups = max(64, math.ceil(impressions / preset_named(preset).mean_impressions))
        folder = self.root / "raw" / f"{preset}-{groups}-{self.seed}"
        if not storage.is_complete(str(folder)):
            say(f"simulating {impressions:,} impressions")
            options = {"output": folder, "num-groups": groups, "seed": self.seed, "preset": preset}
            flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
            measured([*SIMULATE, *flags], self.log(f"simulate-{folder.name}"))
        return folder

    def config(self, name: str, raw: Path, changes: Mapping[str, Any] | None = None) -> Path:
        """Writes the config `name` and returns its path: conf/aliccp.yaml, all of `raw` as its train split.

        Args:
            name: also the folder of its dataset, model, scores and report.
            raw: what `raw` returned.
            changes: section -> keys that differ; `features` is replaced as a whole.
        """
        content = yaml.safe_load((ROOT / "conf" / "aliccp.yaml").read_text(encoding="utf-8"))
        base = self.root / name
        content["paths"] = {part: str(base / part) for part in ("dataset", "model", "scores", "report")}
        content["logs"]["splits"] = {
            "train": {
                "skeleton": str(raw / "sample_skeleton_*"),
                "common_features": str(raw / "common_features_*"),
            }
        }
        for section, keys in (changes or {}).items():
            merged = {} if section == "features" else content.get(section, {})
            content[section] = {**merged, **keys}
        path = self.root / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    def grouped(self, impressions: int | None = None) -> Path:
        """Returns the config of a preprocessed dataset in Ali-CCP's shape."""
        size = impressions or self.impressions
        return self.preprocessed(self.config(f"grouped-{size}", self.raw(size)))

    def single_valued(self) -> Path:
        """Returns the config of a dataset of single-valued fields, every impression a group of its own."""
        raw = self.raw(self.impressions)
        return self.preprocessed(self.config(f"single-{self.impressions}", raw, single_valued_changes()))

    def preprocessed(self, config: Path) -> Path:
        """Preprocesses what a config names, unless that was done, and returns the config."""
        dataset = load_config(str(config)).paths.dataset
        if not storage.is_complete(dataset):
            say(f"preprocessing {config.stem}")
            measured([*PREPROCESS, "--config", str(config)], self.log(f"preprocess-{config.stem}"))
        return config

    def trained(self, config: Path, steps: int = 20) -> Path:
        """Trains a config for a few steps, unless that was done, and returns the config."""
        model = load_config(str(config)).paths.model
        if not storage.exists(storage.join(model, "versions")):
            say(f"training {config.stem} for {steps} steps")
            options = [f"train.max_steps={steps}", "train.tensorboard=false"]
            measured([*TRAIN, "--config", str(config), *options], self.log(f"train-{config.stem}"))
        return config

    def run(self, step: str, command: Sequence[str], **options: Any) -> Usage:
        """Runs a command as users type it and returns what it cost."""
        words = [sys.executable if word == "python" else word for word in command]
        return measured(words, self.log(step), **options)

    def clear(self, name: str) -> Path:
        """Returns the empty folder `name`."""
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


# Public benchmarks take 1.3M distinct values over these fields; every value that they see once is dropped
# before.
_SINGLE_VALUED_ROWS = {"101": 240_000, "205": 470_000, "207": 270_000, "216": 60_000}
_SINGLE_VALUED_CROSSES = {"508": 8_000, "509": 120_000, "702": 60_000}


def single_valued_changes() -> dict[str, Any]:
    """Returns the changes to conf/aliccp.yaml that leave single-valued fields and groups of one impression.

    All fields that can have several values are left out, as no peer takes them; the tables have about 1.3M
    rows.
    """
    spec = load_config(str(ROOT / "conf" / "aliccp.yaml")).features
    fields = [field for field in spec.fields if not field.multi]
    sizes = {field.table_name: spec.tables[field.table_name].num_buckets for field in fields}
    sizes |= _SINGLE_VALUED_ROWS | _SINGLE_VALUED_CROSSES
    return {
        "features": {
            "tables": {name: {"num_buckets": size} for name, size in sizes.items()},
            "fields": [{"name": field.name, "level": field.level, "weighted": False} for field in fields],
        },
        "samples": {"max_group_size": 1},
    }


def manifest_of(config: Path) -> Manifest:
    """Returns the manifest of a config's dataset."""
    return read_manifest(load_config(str(config)).paths.dataset)


def say(text: str) -> None:
    """Prints a line of progress."""
    print(f"  {text} ...", flush=True)
