"""Profiles training steps on batches in memory, and measures what the machine's matrix products can do.

Writes the share of a step's time by kind of work, what its matrix products take and the rate that they reach
when they are made alone (`bench/products.py`: in a step they are parts of larger kernels), and the machine's
sgemm rate on a large square product with the same threads.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from bench.products import product_flops, products_s, sgemm_gflops
from bench.training import Session
from esmm_spark.contracts.config_file import load_config
from esmm_spark.training.ranks.cluster import Cluster

STEPS = 30
_TURNS = 12
_TOP = 25
PRODUCTS, TOWERS = "matrix products", "towers and loss beside them"

# Operator names by kind; the first kind with a part of the name has it.
_KINDS = {
    TOWERS: ("_TowersLoss", "aten::addmm", "aten::mm"),
    "embedding": ("_Pool", "cumsum"),
    "dense optimizer": ("Optimizer.", "aten::_fused_adam", "aten::_foreach"),
    "add, cut, copy": (
        "index_",
        "aten::add",
        "aten::cat",
        "copy_",
        "repeat_inter",
        "split",
        "_Split",
        "fill_",
        "zero",
    ),
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
    widths = (len(config.features.impression_fields) * config.model.dim, *config.model.hidden_units)
    session.step_times(iter(batches), steps)
    # In turns: the machine is faster at one time than at another.
    turns = [
        (
            np.median(np.diff(session.step_times(iter(batches), steps))),
            2 * products_s(config.train.batch_size, widths),
            sgemm_gflops(),
        )
        for _ in range(_TURNS)
    ]
    step_s, product_s, gflops = (float(number) for number in np.median(turns, axis=0))
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        session.step_times(iter(batches), steps)
    by_kind, operators = _by_kind(profiler.key_averages(), steps)
    total_s = sum(by_kind.values()) / steps
    flops = 2 * product_flops(config.train.batch_size, widths)
    share = {kind: seconds / steps / total_s for kind, seconds in by_kind.items()}
    # Of the profiled step, as the rest is; the profiler makes it longer than it is.
    products = product_s / total_s
    share = {PRODUCTS: products, TOWERS: share.pop(TOWERS) - products, **share}
    result = {
        "step_s": step_s,
        "profiled_step_s": total_s,
        "product_s": product_s,
        "share": share,
        "product_share": product_s / step_s,
        "product_gflops": flops / product_s / 1e9,
        "sgemm_gflops": gflops,
        "gflop_per_impression": flops / config.train.batch_size / 1e9,
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


if __name__ == "__main__":
    main()
