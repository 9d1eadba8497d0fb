"""An evaluation's tasks one after the other in this process: what Spark does, without Spark."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from esmm_spark.contracts.config import Evaluate
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.evaluation.measure.alignment import align_part
from esmm_spark.evaluation.measure.blocks import ColumnBlock, parts_of, to_batches
from esmm_spark.evaluation.measure.inputs import Source, find_scores, find_truth
from esmm_spark.evaluation.measure.layout import Job
from esmm_spark.evaluation.measure.measurement import Measurements, measurements_of, plan_job
from esmm_spark.evaluation.measure.reading import read_share
from esmm_spark.evaluation.measure.running import Results, part_vectors, read_tasks, results_of, vector_batch
from tests.evaluation.scored_data import write_scores, write_truth


def write_sources(
    folder: Path,
    scores: pd.DataFrame,
    baseline: pd.DataFrame | None = None,
    truth: pd.DataFrame | None = None,
    tasks: Tasks = DEFAULT_TASKS,
) -> dict[str, Source]:
    """Writes the sides' files and returns them by series."""
    sources = {"model": find_scores(str(write_scores(folder / "scores", scores, tasks)), tasks)}
    if baseline is not None:
        sources["baseline"] = find_scores(str(write_scores(folder / "base", baseline, tasks)), tasks)
    if truth is not None:
        write_truth(folder / "truth.parquet", truth, tasks)
        sources["oracle"] = find_truth(str(folder / "truth.parquet"), tasks)
    return sources


def run_locally(sources: Mapping[str, Source], job: Job) -> Results:
    """Returns what the tasks find; blocks go through Arrow and are sorted as Spark sorts them."""
    read: list[ColumnBlock] = []
    for task, (share, columns) in enumerate(read_tasks(sources, job, 2)):
        read += read_share(share, columns, job.id_parts, task)
    aligned: list[ColumnBlock] = []
    for part, blocks in parts_of(to_batches(_sorted(read))):
        aligned += align_part(part, blocks, job)
    batches = [
        vector_batch(part_vectors(part, blocks, job))
        for part, blocks in parts_of(to_batches(_sorted(aligned)))
    ]
    return results_of(pa.Table.from_batches(batches))


def measure_locally(
    sources: Mapping[str, Source],
    samples: int = 0,
    seed: int = 7,
    tasks: Tasks = DEFAULT_TASKS,
    **changes: Any,
) -> Measurements:
    """Returns the metrics; `changes` replace attributes of the job."""
    config = Evaluate(bootstrap_samples=samples, seed=seed)
    job = replace(plan_job(config, tasks, sources), **changes)
    return measurements_of(run_locally(sources, job), sources, job, config.calibration_bins)


def _sorted(blocks: Iterable[ColumnBlock]) -> list[ColumnBlock]:
    return sorted(blocks, key=lambda block: (block.part, block.kind, block.source))
