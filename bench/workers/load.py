"""Reads an epoch with the loader and, in turns, with pyarrow alone. Writes impressions/s of both."""

import argparse
import json
import time
from pathlib import Path

from bench.pyarrow_batches import pyarrow_batches
from bench.training import Session
from esmm_spark.contracts.config_file import load_config
from esmm_spark.training.ranks.cluster import Cluster


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
    rates: dict[str, list[float]] = {"loader": [], "pyarrow": []}
    sums: dict[str, list[int]] = {"loader": [], "pyarrow": []}
    for epoch in range(arguments.rounds):
        started, seen, tokens = time.perf_counter(), 0, 0
        with session.feed(epoch) as batches:
            for batch in batches:
                seen += batch.num_impressions
                tokens += batch.context_rows.numel() + batch.impression_rows.numel()
        rates["loader"].append(seen / (time.perf_counter() - started))
        sums["loader"] += [seen, tokens]
        started, seen, tokens = time.perf_counter(), 0, 0
        for found in pyarrow_batches(config.paths.dataset, session.plan(epoch), config.features):
            seen += found["labels"].shape[1]
            tokens += found["context_rows"].numel() + found["impression_rows"].numel()
        rates["pyarrow"].append(seen / (time.perf_counter() - started))
        sums["pyarrow"] += [seen, tokens]
    assert sums["loader"] == sums["pyarrow"], sums
    arguments.out.write_text(json.dumps({"rates": rates}))


if __name__ == "__main__":
    main()
