"""Runs on simulated logs, and what they left behind."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.schemas.layout import DAY_PARTITION, EXAMPLES, MARKER, REJECTS
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.samples.counting import require_counted
from tests.repository import ROOT

# More files than cores: tasks begin and end while a run goes on.
NUM_FILES = 24


class Run:
    """A config of conf/ on simulated logs, that writes below a folder of its own.

    Attributes:
        folder: the folder.
        arguments: of a command that runs with the config.
        config: the config.
    """

    def __init__(
        self, name: str, raw: Path, folder: Path, *, at: str | None = None, **others: object
    ) -> None:
        """Makes the folder.

        Args:
            name: of the config.
            raw: where its logs lie.
            folder: the folder.
            at: where the run writes instead.
            others: more of the config's keys; their dots are two underscores.
        """
        folder.mkdir()
        self.folder, self.at = folder, at or str(folder)
        keys: dict[str, object] = {
            **{f"paths.{path}": f"{self.at}/{path}" for path in ("dataset", "model", "scores", "report")},
            "evaluate.truth": raw / "truth.parquet",
            "evaluate.baseline_scores": "null",
            "evaluate.bootstrap_samples": 20,
            "samples.num_files": NUM_FILES,
            **{key.replace("__", "."): value for key, value in others.items()},
        }
        if name == "demo":
            for split in ("train", "test"):
                keys[f"logs.splits.{split}.skeleton"] = raw / f"sample_skeleton_{split}"
                keys[f"logs.splits.{split}.common_features"] = raw / f"common_features_{split}"
        else:
            for log in ("impressions", "clicks", "conversions"):
                keys[f"logs.events.{log}.path"] = raw / log
            own = '"206": category, "207": shop, "210": intentions, "216": brand'
            columns = f"key: item, key_column: item_id, valid_from: valid_from, features: {{{own}}}"
            keys["logs.events.catalogs"] = f"[{{path: {raw}/items, {columns}}}]"
        path = ROOT / "conf" / f"{name}.yaml"
        overrides = [f"{key}={value}" for key, value in keys.items()]
        self.arguments = ("--config", str(path), *overrides)
        self.config: Config = load_config(str(path), overrides)

    @property
    def dataset(self) -> Path:
        """The folder of the dataset."""
        return Path(self.config.paths.dataset)

    def staged(self) -> list[Path]:
        """Returns the examples' files that tasks have begun and no run has published."""
        return list(self.folder.glob(".dataset.*.staging/examples/*/part-*"))

    def examples(self, partition: str) -> pa.Table:
        """Returns the rows of a partition in an order of their own."""
        return rows_of(self.dataset / EXAMPLES / partition, "group_hash", "group_key")


def rows_of(folder: Path, *keys: str) -> pa.Table:
    """Returns the rows of a folder's files, sorted by `keys`, whichever file they are in."""
    table = pa.concat_tables([pq.ParquetFile(path).read() for path in sorted(folder.glob("part-*.parquet"))])
    return table.sort_by([(key, "ascending") for key in keys])


def require_whole(run: Run) -> None:
    """Fails unless the dataset is what its manifest counts, down to row groups, and nothing else is there."""
    dataset = str(run.dataset)
    manifest = read_manifest(dataset)
    rejects = [f"{REJECTS}/{name}" for name, _ in storage.list_files(f"{dataset}/{REJECTS}", ".parquet")]
    paths = require_counted(dataset, manifest.partitions.values(), rejects, manifest.sources)
    found = {f"{EXAMPLES}/{name}" for name, _ in storage.list_files(f"{dataset}/{EXAMPLES}")}
    assert {name for name in found if not name.endswith((MARKER, DAY_PARTITION))} == set(paths)
    litter = {path.name for path in run.folder.iterdir()} - {"dataset", "dataset.run.json", "dataset.runs"}
    assert not litter


def assert_same_examples(ours: Run, theirs: Run) -> None:
    """Fails unless two datasets hold the same rows, and the same counts and hashes."""
    require_whole(ours)
    counts = [read_manifest(str(run.dataset)) for run in (ours, theirs)]
    assert [*counts[0].partitions] == [*counts[1].partitions]
    for name, expected in counts[1].partitions.items():
        found = counts[0].partitions[name]
        assert (found.groups, found.impressions, found.positives, found.group_hash_sum) == (
            expected.groups,
            expected.impressions,
            expected.positives,
            expected.group_hash_sum,
        )
        assert ours.examples(name).equals(theirs.examples(name)), name
