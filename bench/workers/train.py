"""Trains with the loader, on batches in memory, and validates, in turns; under horovodrun on several ranks.

Writes impressions/s of each over all ranks, the bytes that a rank sends in a step and what it computes in it,
from the first rank.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

from bench.training import Session
from esmm_spark.contracts.config_file import load_config
from esmm_spark.training.ranks.cluster import open_cluster

PREPARED_BATCHES = 400
WARM_UP_STEPS = 15


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-steps", type=int, default=400)
    parser.add_argument("--modes", nargs="+", default=["loader", "memory"])
    arguments = parser.parse_intermixed_args()
    config = load_config(arguments.config, arguments.overrides)
    with open_cluster(config.train) as cluster:
        session = Session(config, cluster)
        # One short of an epoch, whose end is held against the manifest: batches in memory aren't all of it.
        steps = min(session.plan().num_steps - 1, arguments.max_steps)
        warm_up = min(WARM_UP_STEPS, steps // 4)
        prepared = session.prepared(min(PREPARED_BATCHES, steps)) if "memory" in arguments.modes else []
        rates: dict[str, list[float]] = {mode: [] for mode in arguments.modes}
        thread_s, process_s = time.thread_time(), time.process_time()
        for epoch in range(arguments.rounds):
            if "memory" in rates:
                rates["memory"].append(session.rate(itertools.cycle(prepared), steps, warm_up))
            if "loader" in rates:
                with session.feed(epoch) as batches:
                    rates["loader"].append(session.rate(batches, steps, warm_up))
            if "validation" in rates:
                rates["validation"].append(session.validation_rate())
        thread_s, process_s = time.thread_time() - thread_s, time.process_time() - process_s
        all_steps = arguments.rounds * len(arguments.modes) * steps
        dense = sum(parameter.numel() for parameter in session.trainer.model.parameters())
        if cluster.is_first:
            result = {
                "rates": rates,
                "steps": steps,
                "ranks": cluster.num_ranks,
                "batch_size": config.train.batch_size,
                "exchanged_bytes_per_step": session.trainer.arena.exchanged_bytes / all_steps,
                # The thread that trains, and all others: the loader's, Horovod's, further ones that compute.
                "training_thread_cpu_s_per_step": thread_s / all_steps,
                "other_threads_cpu_s_per_step": (process_s - thread_s) / all_steps,
                "dense_gradient_bytes": 4 * dense,
                "arena_bytes": 4 * (config.model.dim + 1) * config.features.num_rows,
            }
            arguments.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
