"""Trains the reference, plain PyTorch on flat impressions, on batches in memory. Writes impressions/s."""

import argparse
import json
import time
from pathlib import Path

import torch

from bench.flat import flatten
from bench.reference import ReferenceBatch, ReferenceEsmm, ReferenceTrainer
from bench.training import Session
from esmm_spark.config_file import load_config
from esmm_spark.training.cluster import Cluster


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
    spec = config.features
    flats = [flatten(batch, spec) for batch in session.prepared(arguments.batches)]
    batches = [ReferenceBatch(flat) for flat in flats]
    del session
    torch.manual_seed(config.train.seed)
    model = ReferenceEsmm(spec.num_rows, len(spec.fields), config.model.dim, config.model.hidden_units)
    trainer = ReferenceTrainer(model, config.train.learning_rate)
    trainer.step(batches[0])
    rates = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        for batch in batches:
            trainer.step(batch)
        seen = sum(batch.num_impressions for batch in batches)
        rates.append(seen / (time.perf_counter() - started))
    tokens = sum(len(flat.rows) for flat in flats) / sum(flat.num_impressions for flat in flats)
    arguments.out.write_text(json.dumps({"rates": rates, "tokens_per_impression": tokens}))


if __name__ == "__main__":
    main()
