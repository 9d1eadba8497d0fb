"""How cost grows: with the number of impressions, and with the rows of the arena."""

from pathlib import Path
from typing import Any

from bench.measure import measured_worker
from bench.results import OURS, StageResult
from bench.workspace import PREPROCESS, TRAIN, Workspace, manifest_of, say
from esmm_spark.contracts.config_file import load_config
from esmm_spark.files import storage

SIZES = (1_000_000, 3_000_000, 10_000_000)
ARENA_ROWS = (1_000_000, 10_000_000, 50_000_000)
# Cost per impression at the largest size over that at the smallest.
_FLAT = 1.2


def run(
    workspace: Workspace, sizes: tuple[int, ...] = SIZES, rows: tuple[int, ...] = ARENA_ROWS
) -> StageResult:
    """Measures preprocess and an epoch of training at each size, and training with each arena."""
    result = StageResult()
    by_size = [_one_size(workspace, size) for size in sizes]
    result.details["sizes"] = by_size
    for found in by_size:
        result.add(
            f"{OURS}, preprocess of {found['impressions']:,}",
            found["impressions"] / found["preprocess"]["cpu_s"],
            "impressions/CPU-s",
            **found,
        )
    config = str(workspace.grouped(sizes[0]))
    arenas = []
    for count in rows:
        say(f"growth: an arena of {count:,} rows")
        found, _ = measured_worker(
            "bench.workers.arena", [config, "--rows", str(count)], workspace.log(f"growth-arena-{count}")
        )
        arenas.append(found)
        result.add(f"{OURS}, arena of {count:,} rows", found["rate"], "impressions/s", **found)
    result.details["arenas"] = arenas
    costs = [found["preprocess"]["cpu_s"] / found["impressions"] for found in by_size]
    # The JVM's start weighs on the smallest size alone, so that this can only be too strict.
    result.ask(
        "preprocess's cost per impression, largest / smallest size", costs[-1] / costs[0], _FLAT, False
    )
    return result


def _one_size(workspace: Workspace, size: int) -> dict[str, Any]:
    """Returns the cost of preprocess and of one epoch of training on about `size` impressions."""
    raw = workspace.raw(size)
    config = workspace.config(f"grouped-{size}", raw)
    say(f"growth: preprocess of {size:,}")
    preprocess = workspace.run(f"growth-preprocess-{size}", [*PREPROCESS, "--config", str(config)])
    manifest = manifest_of(config)
    partitions = manifest.partitions.values()
    model = workspace.clear(f"growth-model-{size}")
    say(f"growth: an epoch of {size:,}")
    options = ["train.epochs=1", "train.resume=false", f"paths.model={model}"]
    train = workspace.run(f"growth-train-{size}", [*TRAIN, "--config", str(config), *options])
    return {
        "impressions": sum(counts.impressions for counts in partitions),
        "tokens": sum(counts.context_tokens + counts.impression_tokens for counts in partitions),
        "raw_bytes": _bytes_below(raw, ".csv"),
        "written_bytes": _bytes_below(Path(load_config(str(config)).paths.dataset), ".parquet"),
        "preprocess": preprocess.as_details(),
        "train": train.as_details(),
    }


def _bytes_below(folder: Path, suffix: str) -> int:
    return sum(size for _, size in storage.list_files(str(folder), suffix))
