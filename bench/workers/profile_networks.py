"""Times steps of several networks on the same batches in memory, in turns, and their matrix products.

Writes for each network seconds a step, how much of them products take, their rate, and their operations an
impression. A network of torch's operations is profiled: the time inside its products, and their operations.
Of perceptrons, whose products are parts of a kernel, they are made alone (`bench/products.py`).
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
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.feed.batch import Batch
from esmm_spark.training.ranks.cluster import Cluster

_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
_FUSED = "mlp"


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", nargs="+", help="network=config")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=6)
    arguments = parser.parse_args()
    alone = Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1)
    named = [network.split("=", 1) for network in arguments.networks]
    configs = {name: load_config(path, [f"model.network={name}"]) for name, path in named}
    sessions = {name: Session(config, alone) for name, config in configs.items()}
    # One that trains on each config's dataset.
    first_of = {path: name for name, path in reversed(named)}
    batches_of = {path: sessions[name].prepared(arguments.steps) for path, name in first_of.items()}
    batches = {name: batches_of[path] for name, path in named}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    gflops = []
    for turn in range(arguments.turns + 1):
        for name, session in sessions.items():
            ends = session.step_times(iter(batches[name]), len(batches[name]))
            # The first turn compiles and warms up.
            if turn > 0:
                times[name].append(float(np.median(np.diff(ends))))
        gflops.append(sgemm_gflops(rounds=1))
    found = {
        name: {"step_s": min(times[name]), "median_step_s": float(np.median(times[name]))}
        | _products(session, batches[name], configs[name])
        for name, session in sessions.items()
    }
    size = next(iter(configs.values())).train.batch_size
    machine = {"sgemm_gflops": max(gflops), "threads": torch.get_num_threads()}
    result = {"networks": found, "batch_size": size, **machine}
    arguments.out.write_text(json.dumps(result))


def _products(session: Session, batches: list[Batch], config: Config) -> dict[str, Any]:
    """Returns seconds of a step's products, and their operations an impression."""
    size = config.train.batch_size
    if config.model.network == _FUSED:
        num_features = len(config.features.impression_fields) * config.model.dim
        widths = (num_features, *config.model.hidden_units)
        return {
            "product_s": 2 * products_s(size, widths),
            "gflop_per_impression": 2 * product_flops(size, widths) / size / 1e9,
        }
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
        session.step_times(iter(batches), len(batches))
    own = [event for event in profiler.key_averages() if event.key in _PRODUCTS]
    return {
        "product_s": sum(event.self_cpu_time_total for event in own) / 1e6 / len(batches),
        "gflop_per_impression": sum(event.flops for event in own) / 1e9 / len(batches) / size,
    }


if __name__ == "__main__":
    main()
