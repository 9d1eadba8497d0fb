"""Raw logs to examples: esmm_spark against Polars written for one machine, and pandas as people write it."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.measure import measured_worker
from bench.peers.venv import peers_python
from bench.results import OURS, StageResult
from bench.workspace import PREPROCESS, Workspace, manifest_of, say
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.schemas.columns import EXAMPLE_COLUMNS
from esmm_spark.files.storage import join

ROUNDS = 3
# pandas takes minutes for a million, and as long for each impression whatever their number.
PANDAS_IMPRESSIONS = 60_000

_UNIT = "impressions/CPU-s"


def run(workspace: Workspace) -> StageResult:
    """Measures the whole command, warm rounds of it in one session, and both peers."""
    result = StageResult()
    raw = workspace.raw(workspace.impressions)
    config = workspace.config("preprocess", raw)
    say("preprocess: the whole command, cold")
    cold = workspace.run("preprocess-cold", [*PREPROCESS, "--config", str(config)])
    impressions = sum(counts.impressions for counts in manifest_of(config).partitions.values())
    say(f"preprocess: {ROUNDS} rounds in one session")
    warm, usage = measured_worker(
        "bench.workers.warm_job",
        ["jobs/preprocess.py", "--rounds", str(ROUNDS), "--", "--config", str(config)],
        workspace.log("preprocess-warm"),
    )
    ours = _rate(impressions, warm["runs"][1:])
    result.add(
        OURS,
        ours,
        _UNIT,
        runs=warm["runs"],
        cold=cold.as_details(),
        impressions_per_cpu_s_cold=impressions / cold.cpu_s,
        impressions=impressions,
        peak_mib=usage.peak_mib,
    )
    fields = workspace.root / "peers" / "fields.json"
    write_fields(load_config(str(config)).features, fields)
    peers: dict[str, float] = {}
    small = workspace.raw(min(PANDAS_IMPRESSIONS, workspace.impressions))
    for name, module, source in (
        ("Polars", "polars_converter", raw),
        ("pandas", "pandas_converter", small),
    ):
        say(f"preprocess: {name}")
        target = workspace.clear(f"peers/{module}") / "examples.parquet"
        found, usage = measured_worker(
            f"bench.peers.{module}",
            [str(source), str(fields), str(target), "--rounds", str(ROUNDS)],
            workspace.log(f"preprocess-{module}"),
            python=peers_python(workspace.root),
        )
        runs = found["runs"]
        peers[name] = _rate(found["impressions"], runs[1:] or runs)
        result.add(name, peers[name], _UNIT, **found, peak_mib=usage.peak_mib)
    same = same_examples(config, workspace.root / "peers" / "polars_converter" / "examples.parquet")
    result.ask("share of groups that Polars' output has alike", same, 1.0)
    result.ask("preprocess, impressions per CPU-second, warm", ours, 60_000)
    result.ask("preprocess / Polars, per CPU-second", ours / peers["Polars"], 1.0)
    result.ask("preprocess / pandas, per CPU-second", ours / peers["pandas"], 20.0)
    return result


def same_examples(config: Path, file: Path) -> float:
    """Returns the share of groups, in blocks of 256, that a dataset and the examples in `file` have alike."""
    dataset = load_config(str(config)).paths.dataset
    columns = list(EXAMPLE_COLUMNS)
    ours = pa.concat_tables(
        pq.ParquetFile(join(dataset, part.path)).read(columns)
        for counts in manifest_of(config).partitions.values()
        for part in counts.files
    ).sort_by("group_hash")
    theirs = pq.ParquetFile(file).read(columns).sort_by("group_hash")
    ours, theirs = ours.combine_chunks(), theirs.combine_chunks()
    if len(ours) != len(theirs):
        return 0.0
    found = zip(ours.to_batches(max_chunksize=256), theirs.to_batches(max_chunksize=256), strict=True)
    alike = sum(len(a) for a, b in found if a.to_pydict() == b.to_pydict())
    return alike / len(ours)


def write_fields(spec: FeatureSpec, path: Path) -> None:
    """Writes the fields of a spec as `bench.peers.raw_logs` reads them."""
    fields = [
        {
            "name": field.name,
            "level": field.level,
            "table": field.table_name,
            "first_row": spec.offsets[field.table_name],
            "num_buckets": spec.tables[field.table_name].num_buckets,
            "weighted": field.weighted,
        }
        for field in spec.fields
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields))


def _rate(impressions: int, runs: list[dict[str, Any]]) -> float:
    """Returns impressions per CPU-second of the best round."""
    return impressions / min(float(run["cpu_s"]) for run in runs)
