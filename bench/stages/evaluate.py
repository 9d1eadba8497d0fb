"""Evaluation from the command to its exit: the demo's size, two models, and how the cost grows."""

import os
from pathlib import Path
from typing import Any

from bench.results import OURS, StageResult
from bench.scored_logs import PARTITION, write_scored
from bench.workspace import EVALUATE, Workspace, say
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import storage

SIZES = (1_000_000, 10_000_000, 21_000_000, 40_000_000)
_DEMO = 600_000
_DEMO_S, _SECONDS, _MEMORY_MIB, _GROWN = 15.0, 60.0, 4096.0, 1.2
_TIMED = {10_000_000: "two models", 21_000_000: "one model"}
_BASELINES = {"one model": False, "two models": True}


def run(workspace: Workspace, sizes: tuple[int, ...] = SIZES) -> StageResult:
    """Evaluates scores with the truth and 200 resamples, cold; the best of two at the demo's size.

    Args:
        workspace: where the scores are written.
        sizes: scored impressions; what the others cost per impression is held against the first.
    """
    result = StageResult()
    demo = min(
        (_measure(workspace, _DEMO, "two models") for _ in range(2)), key=lambda found: float(found["wall_s"])
    )
    result.add(f"{OURS}, two models, {_DEMO:,}", _DEMO / demo["wall_s"], "impressions/s", **demo)
    result.ask(f"seconds, two models and truth, {_DEMO:,}", demo["wall_s"], _DEMO_S, at_least=False)
    cpu: dict[tuple[str, int], float] = {}
    for size in sizes:
        for models in ("one model", "two models"):
            # The second model tells nothing new of growth: it is measured where a goal is set.
            if models == "two models" and _TIMED.get(size) != models:
                continue
            found = _measure(workspace, size, models)
            cpu[models, size] = found["cpu_s"] / size
            result.add(f"{OURS}, {models}, {size:,}", size / found["wall_s"], "impressions/s", **found)
            if _TIMED.get(size) == models:
                text = f"{models} and truth, {size:,}"
                result.ask(f"seconds, {text}", found["wall_s"], _SECONDS, at_least=False)
                result.ask(f"peak memory, {text}, MiB", found["peak_mib"], _MEMORY_MIB, at_least=False)
    for size in sizes[1:]:
        growth = cpu["one model", size] / cpu["one model", sizes[0]]
        result.ask(f"CPU seconds per impression, {size:,} / {sizes[0]:,}", growth, _GROWN, at_least=False)
    return result


def _measure(workspace: Workspace, size: int, models: str) -> dict[str, Any]:
    """Returns what one evaluation costs."""
    folder = _scored(workspace, size)
    name = f"evaluate-{size}-{models.replace(' ', '-')}"
    config = workspace.config(name, folder)
    baseline = folder / "base" if _BASELINES[models] else "null"
    options = [
        f"paths.scores={folder / 'scores'}",
        f"evaluate.partition={PARTITION}",
        f"evaluate.truth={folder / 'truth.parquet'}",
        f"evaluate.baseline_scores={baseline}",
    ]
    say(f"evaluate: {models} and truth, {size:,} impressions")
    return workspace.run(name, [*EVALUATE, "--config", str(config), *options]).as_details()


def _scored(workspace: Workspace, size: int) -> Path:
    """Returns the folder of `size` scored impressions."""
    folder = workspace.root / f"scored-{size}"
    if not storage.is_complete(str(folder)):
        say(f"drawing {size:,} scored impressions")
        write_scored(folder, size, workspace.seed)
        (folder / MARKER).touch()
        # Pages that still have to reach the disk would be written during the measurement.
        os.sync()
    return folder
