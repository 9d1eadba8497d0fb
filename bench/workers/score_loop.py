"""Calls a trained model in a plain loop over batches in memory: the limit of scoring.

Writes impressions/s.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch

from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.schemas.layout import TRAIN_PARTITION
from esmm_spark.feed.batch import Batch, batch_of
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import row_groups_of
from esmm_spark.feed.row_groups import read_row_groups
from esmm_spark.files.local_copy import localize
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.model.directory import find_model, load_dense, open_rows, read_info
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.serving import ServingEmbedding
from esmm_spark.model.objectives.probabilities import predict
from esmm_spark.runtime.memory import keep_freed_memory


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("--impressions", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    keep_freed_memory()
    uri = localize(find_model(config.paths.model))
    info = read_info(uri)
    spec = info.feature_spec
    dense, embedding = load_dense(uri, info), ServingEmbedding(open_rows(uri, info))
    batches: list[Batch] = []
    prepared = 0
    counts = read_manifest(config.paths.dataset).partition(TRAIN_PARTITION, config.paths.dataset)
    layout = Layout(spec, for_scoring=True)
    for groups in read_row_groups(config.paths.dataset, row_groups_of(counts), layout):
        if prepared >= arguments.impressions:
            break
        batches += [batch_of([part], layout) for part in groups.slices(config.score.batch_size)]
        prepared += groups.num_impressions
    rates = []
    with torch.inference_mode():
        for _ in range(arguments.rounds):
            started = time.perf_counter()
            for tokens in batches:
                embedded = embed_batch(embedding, tokens, spec)
                predict(dense(*embedded), dense.objective)
            rates.append(prepared / (time.perf_counter() - started))
    arguments.out.write_text(json.dumps({"rates": rates, "impressions": prepared}))


if __name__ == "__main__":
    main()
