"""One flat table to examples against the same content in Ali-CCP's raw files: values per CPU-second."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from bench.measure import measured_worker
from bench.results import OURS, StageResult
from bench.workers.flat_table import IDS
from bench.workspace import Workspace, manifest_of, say, single_valued_changes
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.schemas.columns import EXAMPLE_COLUMNS
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import storage

ROUNDS = 3
_TURNS = 3
_RAW = "raw files"
_LARGER = 4  # the second size / the first
FORMATS = ("parquet", "csv")
_UNIT = "values/CPU-s"
_COMPARED = ["group_hash", *EXAMPLE_COLUMNS]


def run(workspace: Workspace) -> StageResult:
    """Measures warm rounds of a table in each format and of the raw files; the best of all turns counts.

    Finding a table's contexts is a Spark job more, whose price falls on few impressions: so it is measured at
    two sizes. Examples are compared at the first one.
    """
    result = StageResult()
    first, second = workspace.impressions, _LARGER * workspace.impressions
    for impressions in (first, second):
        logs = _logs(workspace, impressions)
        raw_config = _raw_config(workspace, logs)
        configs = {name: _table_config(workspace, logs, name) for name in FORMATS}
        best = _in_turns(
            workspace,
            {_RAW: (raw_config, logs["raw_values"])}
            | {name: (config, logs["flat_values"]) for name, config in configs.items()},
        )
        raw = best.pop(_RAW)
        result.add(f"{OURS}, raw files, {impressions:,}", raw["rate"], _UNIT, **raw)
        for file_format, found in best.items():
            result.add(f"{OURS}, {file_format} table, {impressions:,}", found["rate"], _UNIT, **found)
            name = f"{file_format} table / raw files, {impressions:,}"
            result.ask(f"{name}, values per CPU-second", found["rate"] / raw["rate"], 1.0)
            result.add(f"{name}, CPU seconds", found["cpu_s"] / raw["cpu_s"], "")
            if impressions == first:
                alike = _alike(raw_config, configs[file_format])
                result.ask(f"groups that a {file_format} table's examples have alike", alike, 1.0)
    return result


def table_config(workspace: Workspace, impressions: int, file_format: str) -> Path:
    """Returns the config of a table of simulated impressions, which is written once."""
    return _table_config(workspace, _logs(workspace, impressions), file_format)


def _logs(workspace: Workspace, impressions: int) -> dict[str, Any]:
    """Returns `folder`, which holds both forms of the logs, and how many values each has."""
    raw = workspace.raw(impressions)
    folder = workspace.root / "flat" / raw.name
    counts = folder / "counts.json"
    if not storage.is_complete(str(folder)):
        say(f"writing {impressions:,} impressions as a table")
        workspace.clear(f"flat/{raw.name}")
        fields = workspace.config("tables-fields", raw, _changes())
        found, _ = measured_worker(
            "bench.workers.flat_table", [str(raw), str(folder), str(fields)], workspace.log("tables-write")
        )
        counts.write_text(json.dumps(found))
        (folder / MARKER).touch()
    return {"folder": folder, **json.loads(counts.read_text())}


def _changes() -> dict[str, Any]:
    """Returns the changes to conf/aliccp.yaml: fields that have one value, groups as they are."""
    return {"features": single_valued_changes()["features"]}


def _raw_config(workspace: Workspace, logs: dict[str, Any]) -> Path:
    files = {"skeleton": "sample_skeleton.csv", "common_features": "common_features.csv"}
    splits = {"train": {kind: str(logs["folder"] / name) for kind, name in files.items()}}
    return workspace.config("tables-raw", logs["folder"], {**_changes(), "logs": {"splits": splits}})


def _table_config(workspace: Workspace, logs: dict[str, Any], file_format: str) -> Path:
    changes = _changes()
    identifier, key, click, conversion = IDS
    table = {
        "path": str(logs["folder"] / file_format),
        "file_format": file_format,
        "impression_id": identifier,
        "context_key": key,
        "labels": {"click": click, "conversion": conversion},
        "features": {field["name"]: field["name"] for field in changes["features"]["fields"]},
    }
    path = workspace.config(f"tables-{file_format}", logs["folder"], changes)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["logs"] = {"format": "table", "table": table}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _in_turns(workspace: Workspace, sides: dict[str, tuple[Path, int]]) -> dict[str, dict[str, Any]]:
    """Returns of each side, a config and how many values its logs have, the best warm round of all turns.

    Each side has a session in every turn: the machine is at one time by a third faster than at another.
    """
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    peaks: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(_TURNS):
        for name, (config, _) in sides.items():
            say(f"turn {turn + 1} of {_TURNS}, {config.stem}: {ROUNDS} rounds in one session")
            arguments = ["jobs/preprocess.py", "--rounds", str(ROUNDS), "--", "--config", str(config)]
            found, usage = measured_worker("bench.workers.warm_job", arguments, workspace.log(config.stem))
            runs[name] += found["runs"][1:]
            peaks[name].append(usage.peak_mib)
    best: dict[str, dict[str, Any]] = {}
    for name, (_, num_values) in sides.items():
        cpu_s = min(run["cpu_s"] for run in runs[name])
        rate = {"rate": num_values / cpu_s, "values": num_values, "cpu_s": cpu_s}
        best[name] = {**rate, "runs": runs[name], "peak_mib": max(peaks[name])}
    return best


def _alike(first: Path, second: Path) -> float:
    """Returns the share of groups that two datasets have alike, row by row."""
    tables: list[list[dict[str, Any]]] = []
    for config in (first, second):
        dataset = load_config(str(config)).paths.dataset
        files = [part.path for counts in manifest_of(config).partitions.values() for part in counts.files]
        read = [pq.ParquetFile(storage.join(dataset, file)).read(_COMPARED) for file in files]
        tables.append(pa.concat_tables(read).sort_by("group_hash").to_pylist())
    ours, theirs = tables
    alike = sum(one == other for one, other in zip(ours, theirs, strict=True))
    return alike / len(ours)
