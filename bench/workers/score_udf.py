"""Scores flat rows with Spark's `predict_batch_udf`, and writes impressions/s.

A row is one impression with all tokens of its context. `predict_batch_udf` wants columns of one shape, which
bags of tokens have not, so they come packed to bytes: fewer cells than a column per field, which is to its
advantage.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql.types import ArrayType, FloatType

from bench.flat import FlatBatch, flatten
from bench.training import Session
from esmm_spark.contracts.config_file import load_config
from esmm_spark.model.directory import find_model
from esmm_spark.spark.session import spark_session
from esmm_spark.training.ranks.cluster import Cluster

_FILES = 8


def write_flat(batches: list[FlatBatch], folder: Path) -> int:
    """Writes flat rows as Parquet and returns their number; key: none, grain: one row per impression."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for index, batch in enumerate(batches):
        tokens = np.concatenate([[0], np.cumsum(batch.lengths.sum(axis=1))])
        columns = {
            "rows": _packed(batch.rows.astype(np.int32), tokens),
            "weights": _packed(batch.weights, tokens),
            "lengths": [lengths.tobytes() for lengths in batch.lengths.astype(np.int32)],
        }
        pq.write_table(pa.table(columns), folder / f"part-{index:05d}.parquet", compression="zstd")
        number += batch.num_impressions
    return number


def _packed(values: npt.NDArray[Any], offsets: npt.NDArray[Any]) -> list[bytes]:
    return [values[start:stop].tobytes() for start, stop in itertools.pairwise(offsets)]


def predictor(model: str) -> Callable[[], Callable[..., npt.NDArray[Any]]]:
    """Returns what `predict_batch_udf` calls once in each worker to get the function that scores a batch."""

    def make_predict() -> Callable[..., npt.NDArray[Any]]:
        import torch

        from esmm_spark.feed.batch import TokenBatch
        from esmm_spark.model.directory import load_dense, open_rows, read_info
        from esmm_spark.model.embedding.batch import embed_batch
        from esmm_spark.model.embedding.serving import ServingEmbedding
        from esmm_spark.model.objectives.probabilities import predict

        torch.set_num_threads(1)
        info = read_info(model)
        spec = info.feature_spec
        dense, embedding = load_dense(model, info), ServingEmbedding(open_rows(model, info))
        num_context, num_fields = len(spec.context_fields), len(spec.fields)

        def predict_batch(
            rows: npt.NDArray[Any], weights: npt.NDArray[Any], lengths: npt.NDArray[Any]
        ) -> npt.NDArray[Any]:
            count = len(rows)
            bags = np.frombuffer(b"".join(lengths), np.int32).reshape(count, num_fields)
            is_context = np.repeat(np.tile(np.arange(num_fields) < num_context, count), bags.ravel())
            all_rows = np.frombuffer(b"".join(rows), np.int32)
            all_weights = np.frombuffer(b"".join(weights), np.float32)
            tokens = TokenBatch(
                torch.from_numpy(all_rows[is_context]),
                torch.from_numpy(all_weights[is_context]),
                torch.from_numpy(bags[:, :num_context].astype(np.int64).ravel()),
                torch.from_numpy(all_rows[~is_context]),
                torch.from_numpy(all_weights[~is_context]),
                torch.from_numpy(bags[:, num_context:].astype(np.int64).ravel()),
                torch.ones(count, dtype=torch.int64),
            )
            with torch.inference_mode():
                embedded = embed_batch(embedding, tokens, spec)
                predictions = predict(dense(*embedded), dense.objective)
            return predictions.T.numpy()

        return predict_batch

    return make_predict


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--impressions", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
    count = max(_FILES, -(-arguments.impressions // config.train.batch_size))
    flats = [flatten(batch, config.features) for batch in session.prepared(count)]
    del session
    impressions = write_flat(flats, arguments.folder / "flat")
    spark = spark_session("predict_batch_udf")
    score = predict_batch_udf(
        predictor(find_model(config.paths.model)),
        return_type=ArrayType(FloatType()),
        batch_size=config.score.batch_size,
    )
    flat = spark.read.parquet(str(arguments.folder / "flat"))
    rates = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        scores = flat.select(score("rows", "weights", "lengths").alias("scores"))
        scores.write.mode("overwrite").parquet(str(arguments.folder / "scores"))
        rates.append(impressions / (time.perf_counter() - started))
    arguments.out.write_text(json.dumps({"rates": rates, "impressions": impressions}))


if __name__ == "__main__":
    main()
