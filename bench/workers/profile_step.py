"""Profiles training steps on batches in memory, and measures what the machine's matrix products can do.

Writes the share of a step's wall time by kind of work, the FLOPs of its matrix products and the rate that
they reach, and the machine's sgemm rate on a large square product with the same threads.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.training import Session
from esmm_spark.config_file import load_config
from esmm_spark.training.cluster import Cluster

STEPS = 30
_SGEMM_SIZE = 2048
_SGEMM_ROUNDS = 8
_TOP = 25

# Operator names by kind; the first kind with a part of the name has it.
_KINDS = {
    "matrix products": ("aten::addmm", "aten::mm", "aten::bmm", "aten::linear", "mkldnn"),
    "embedding": (
        "_Pool",
        "fbgemm",
        "embedding_bag",
        "bounds_check",
        "SplitLookup",
        "split_embedding",
        "cumsum",
    ),
    "activations": ("_Fused", "prelu", "relu"),
    "dense optimizer": (
        "Optimizer.step",
        "aten::_fused_adam",
        "aten::_foreach",
        "addcmul",
        "addcdiv",
        "lerp",
    ),
    "loss": ("binary_cross_entropy", "log_sigmoid", "logsigmoid", "softplus", "LogOneMinus", "logsumexp"),
    "repeat contexts, add, copy": (
        "index_",
        "scatter_add",
        "aten::add",
        "aten::cat",
        "copy_",
        "repeat_inter",
    ),
    "bias and slope gradients": ("aten::sum",),
}


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
    steps = min(STEPS, session.plan().num_steps)
    batches = session.prepared(steps)
    session.step_times(iter(batches), steps)
    started = time.perf_counter()
    session.step_times(iter(batches), steps)
    step_s = (time.perf_counter() - started) / steps
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
        session.step_times(iter(batches), steps)
    events = profiler.key_averages()
    by_kind, operators = _by_kind(events, steps)
    total_s = sum(by_kind.values())
    product_s, flops = by_kind["matrix products"], sum(event.flops for event in events)
    result = {
        "step_s": step_s,
        "profiled_step_s": total_s / steps,
        "share": {kind: seconds / total_s for kind, seconds in by_kind.items()},
        "product_gflops": flops / product_s / 1e9,
        "sgemm_gflops": sgemm_gflops(),
        "gflop_per_impression": flops / steps / config.train.batch_size / 1e9,
        "operators": operators,
        "threads": torch.get_num_threads(),
    }
    arguments.out.write_text(json.dumps(result))


def _by_kind(events: Any, steps: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Returns seconds by kind, and the operators that take the most time."""
    by_kind = {kind: 0.0 for kind in (*_KINDS, "other")}
    for event in events:
        kind = next((kind for kind, parts in _KINDS.items() if any(p in event.key for p in parts)), "other")
        by_kind[kind] += event.self_cpu_time_total / 1e6
    ordered = sorted(events, key=lambda event: -event.self_cpu_time_total)[:_TOP]
    operators = [
        {"name": event.key, "calls": event.count, "ms_per_step": event.self_cpu_time_total / 1e3 / steps}
        for event in ordered
    ]
    return by_kind, operators


def sgemm_gflops() -> float:
    """Returns the GFLOP/s of a float32 product of two square matrices, the best of several."""
    a, b = torch.randn(2, _SGEMM_SIZE, _SGEMM_SIZE)
    torch.mm(a, b)
    best_s = float("inf")
    for _ in range(_SGEMM_ROUNDS):
        started = time.perf_counter()
        torch.mm(a, b)
        best_s = min(best_s, time.perf_counter() - started)
    return 2 * _SGEMM_SIZE**3 / best_s / 1e9


if __name__ == "__main__":
    main()
