"""Start-up: seconds to the first training step, and to every command's help."""

import statistics
import time

from bench.measure import measured_worker
from bench.results import OURS, StageResult
from bench.workspace import Workspace, horovodrun, say

_ROUNDS = 3
_COMMANDS = (
    "jobs/simulate.py",
    "jobs/preprocess.py",
    "esmm_spark/train.py",
    "jobs/score.py",
    "jobs/evaluate.py",
)


def run(workspace: Workspace) -> StageResult:
    """Measures both; medians of three."""
    result = StageResult()
    config = str(workspace.grouped())
    model = workspace.clear("startup")
    say("startup: the first step through horovodrun -np 1")
    seconds = []
    for _ in range(_ROUNDS):
        started_s = time.time()
        options = ["--config", config, "train.resume=false", f"paths.model={model}"]
        found, _ = measured_worker(
            "bench.workers.first_step", options, workspace.log("startup"), launcher=horovodrun(1)
        )
        seconds.append(found["done_s"] - started_s)
    first_step_s = statistics.median(seconds)
    result.add(f"{OURS}, first training step", first_step_s, "s", rounds=seconds)
    result.ask("first training step, s", first_step_s, 15.0, at_least=False)
    say("startup: --help of every command")
    slowest_s = 0.0
    for command in _COMMANDS:
        rounds = [workspace.run("help", ["python", command, "--help"]).wall_s for _ in range(_ROUNDS)]
        submitted = None
        if command.startswith("jobs/"):
            submitted = workspace.run("help", ["spark-submit", command, "--help"]).wall_s
        help_s = statistics.median(rounds)
        result.add(f"{command} --help", help_s, "s", rounds=rounds, through_spark_submit_s=submitted)
        slowest_s = max(slowest_s, help_s)
    result.ask("slowest --help, s", slowest_s, 1.0, at_least=False)
    return result
