"""Trains the reference, plain PyTorch on flat impressions, on batches in memory. Writes impressions/s.

In two orders. `shuffled`: every batch holds impressions from all over the epoch, as whoever shuffles flat
rows reads them. `grouped`: the very batches that esmm_spark trains on. A group's impressions then stand
together and share their context's rows, which plain PyTorch's sparse gradients profit from, too.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from bench.flat import flatten, shuffled
from bench.flat_networks import flat_network, history_column
from bench.reference import ReferenceBatch, ReferenceEsmm, ReferenceTrainer
from bench.training import Session
from esmm_spark.contracts.config_file import load_config
from esmm_spark.training.ranks.cluster import Cluster

# An epoch larger than this is drawn from its beginning: it has to lie in memory.
EPOCH_BATCHES = 400


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("order", choices=["shuffled", "grouped"])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_intermixed_args()
    config = load_config(arguments.config, arguments.overrides)
    session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
    spec = config.features
    if arguments.order == "grouped":
        flats = [flatten(batch, spec) for batch in session.prepared(arguments.batches)]
    else:
        epoch = session.prepared(min(session.plan().num_steps, EPOCH_BATCHES))
        flats = shuffled(epoch, spec, config.train.batch_size, arguments.batches, config.train.seed)
        del epoch
    history = history_column(spec)
    batches = [ReferenceBatch(flat, history) for flat in flats]
    del session
    torch.manual_seed(config.train.seed)
    num_pooled = len(spec.fields) - len(spec.sequence_fields)
    model = ReferenceEsmm(spec.num_rows, num_pooled, config.model.dim, flat_network(config))
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
