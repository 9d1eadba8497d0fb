"""Reads an epoch with the loader's two readers and a plain loop of pyarrow, in turns.

Writes impressions/s of each.
"""

import argparse
import json
import time
from pathlib import Path

from bench.pyarrow_batches import pyarrow_batches
from bench.training import Session
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.train_config import ReaderName
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
    readers: tuple[ReaderName, ...] = ("petastorm", "arrow")
    rates: dict[str, list[float]] = {name: [] for name in (*readers, "pyarrow")}
    sums: dict[str, list[int]] = {name: [] for name in rates}
    for epoch in range(arguments.rounds):
        for reader in readers:
            started, seen, tokens = time.perf_counter(), 0, 0
            with session.feed(epoch, reader=reader) as batches:
                for batch in batches:
                    seen += batch.num_impressions
                    tokens += batch.context_rows.numel() + batch.impression_rows.numel()
            rates[reader].append(seen / (time.perf_counter() - started))
            sums[reader] += [seen, tokens]
        started, seen, tokens = time.perf_counter(), 0, 0
        for found in pyarrow_batches(config.paths.dataset, session.plan(epoch), config.features):
            seen += found["labels"].shape[1]
            tokens += found["context_rows"].numel() + found["impression_rows"].numel()
        rates["pyarrow"].append(seen / (time.perf_counter() - started))
        sums["pyarrow"] += [seen, tokens]
    assert sums["petastorm"] == sums["arrow"] == sums["pyarrow"], sums
    arguments.out.write_text(json.dumps({"rates": rates}))


if __name__ == "__main__":
    main()
