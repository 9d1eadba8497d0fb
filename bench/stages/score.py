"""Scoring with Spark, against the model in a plain loop and `predict_batch_udf` over flat rows."""

import os

from bench.measure import measured_worker
from bench.meter import WORKER
from bench.results import OURS, StageResult
from bench.workspace import Workspace, manifest_of, say
from esmm_spark.contracts.schemas.layout import TRAIN_PARTITION

_UNIT = "impressions/s"
_ROUNDS = 3


def run(workspace: Workspace) -> StageResult:
    """Measures warm rounds of all three, and the private memory of Spark's Python workers."""
    result = StageResult()
    config = workspace.trained(workspace.grouped())
    # Pages of a file that still has to reach the disk count as a process's own, and writing them takes time.
    os.sync()
    impressions = manifest_of(config).partitions[TRAIN_PARTITION].impressions
    say(f"score: {_ROUNDS} rounds of jobs/score.py in one session")
    job = ["jobs/score.py", "--rounds", str(_ROUNDS), "--"]
    arguments = ["--config", str(config), "--force", f"score.partition={TRAIN_PARTITION}"]
    found, usage = measured_worker("bench.workers.warm_job", [*job, *arguments], workspace.log("score"))
    ours = impressions / min(run["wall_s"] for run in found["runs"][1:])
    worker_mib = usage.private_mib.get(WORKER, 0.0)
    result.add(OURS, ours, _UNIT, **found, impressions=impressions, worker_private_mib=worker_mib)
    say("score: the model in a plain loop")
    found, _ = measured_worker("bench.workers.score_loop", [str(config)], workspace.log("score-loop"))
    loop = max(found["rates"])
    result.add("plain loop over batches in memory", loop, _UNIT, **found)
    say("score: predict_batch_udf over flat rows")
    folder = workspace.clear("score-udf")
    found, _ = measured_worker(
        "bench.workers.score_udf", [str(config), str(folder)], workspace.log("score-udf")
    )
    udf = max(found["rates"][1:])
    result.add("predict_batch_udf, flat rows", udf, _UNIT, **found)
    result.ask("scoring, warm / plain loop", ours / loop, 0.7)
    result.ask("scoring, warm / predict_batch_udf", ours / udf, 3.0)
    result.ask("private memory of a scoring worker, MiB", worker_mib, 200.0, at_least=False)
    return result
