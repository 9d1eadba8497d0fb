"""Several ranks on one machine: two of one thread against one of two, and what a rank sends in a step.

Ranks of Horovod; two of torch.distributed beside them.
"""

from statistics import fmean

from bench.measure import measured_worker
from bench.results import OURS, SENT, StageResult
from bench.workspace import Workspace, horovodrun, say, torchrun

_UNIT = "impressions/s"
_ROUNDS = 3
_BYTES_STEPS = 30


def run(workspace: Workspace) -> StageResult:
    """Measures 1, 2 and, for the bytes alone, 4 ranks through horovodrun."""
    result = StageResult()
    config = str(workspace.grouped())
    rates: dict[int, float] = {}
    sent: dict[int, float] = {}
    for ranks, threads in ((1, 2), (2, 1)):
        say(f"ranks: {ranks} x {threads} threads")
        found, _ = measured_worker(
            "bench.workers.train",
            [config, f"train.threads={threads}", "--modes", "loader", "--rounds", str(_ROUNDS)],
            workspace.log(f"ranks-{ranks}"),
            launcher=horovodrun(ranks),
        )
        rates[ranks] = max(found["rates"]["loader"])
        sent[ranks] = found["exchanged_bytes_per_step"]
        result.add(f"{OURS}, {ranks} x {threads} threads", rates[ranks], _UNIT, **found)
    # Of the two ranks: where the time goes.
    step_s = found["batch_size"] / fmean(found["rates"]["loader"])
    for what, seconds in (
        ("a step", step_s),
        ("CPU of the thread that trains", found["training_thread_cpu_s_per_step"]),
        ("CPU of Horovod's and the loader's threads", found["other_threads_cpu_s_per_step"]),
    ):
        result.add(f"{OURS}, 2 ranks, {what}", 1e3 * seconds, "ms/step/rank")
    say("ranks: 2 x 1 threads by torch.distributed")
    by_torch, _ = measured_worker(
        "bench.workers.train",
        [config, "train.threads=1", "train.backend=torch", "--modes", "loader", "--rounds", str(_ROUNDS)],
        workspace.log("ranks-2-torch"),
        launcher=torchrun(2),
    )
    result.add(
        f"{OURS}, 2 x 1 threads, train.backend=torch", max(by_torch["rates"]["loader"]), _UNIT, **by_torch
    )
    say("ranks: bytes of 4 ranks")
    found, _ = measured_worker(
        "bench.workers.train",
        [config, "train.threads=1", "--modes", "loader", "--rounds", "1", "--max-steps", str(_BYTES_STEPS)],
        workspace.log("ranks-4"),
        launcher=horovodrun(4),
    )
    sent[4] = found["exchanged_bytes_per_step"]
    for ranks in (2, 4):
        result.add(
            f"{OURS}, {ranks} ranks, {SENT}",
            sent[ranks] / 2**20,
            "MiB/step/rank",
            dense_gradient_mib=found["dense_gradient_bytes"] / 2**20,
        )
    result.ask("2 ranks x 1 thread / 1 rank x 2 threads", rates[2] / rates[1], 0.9)
    result.ask("bytes sent by a rank, 4 ranks / 2 ranks", sent[4] / sent[2], 1.1, at_least=False)
    return result
