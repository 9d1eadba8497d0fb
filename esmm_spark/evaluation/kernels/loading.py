"""Loads or compiles all kernels of an evaluation ahead of their first use."""

import numpy as np
import pyarrow as pa

from esmm_spark.evaluation.kernels.gathering import count_target, gather_target, ranges_of
from esmm_spark.evaluation.kernels.group_aucs import group_aucs
from esmm_spark.evaluation.kernels.id_hashes import text_hashes
from esmm_spark.evaluation.kernels.matching import id_order, match
from esmm_spark.evaluation.kernels.ordering import sorted_order
from esmm_spark.evaluation.kernels.sweep import SortedPass
from esmm_spark.evaluation.kernels.weights import WeightTable


def load_kernels() -> None:
    """Calls every kernel on tiny inputs, so that it is loaded from the cache, or compiled."""
    hashes = text_hashes(pa.array(["a", "b"]), 1)
    match((hashes[id_order(hashes, hashes)], hashes), (hashes, hashes))
    scores = np.array([0.25, 0.5])
    for keys in (scores, scores.astype(np.float32), hashes.view(np.int64)):
        sorted_order(keys)
    codes, shift = np.array([1, 2], dtype=np.uint8), 0
    count_target(codes, shift)
    taken = np.empty(2), np.empty(2, np.int64), np.empty(2, np.bool_)
    for column in (scores, scores.astype(np.float32)):
        gather_target(np.arange(2, dtype=np.int32), (column, hashes.view(np.int64), codes), shift, taken)
        ranges_of(column, scores)
    labels, both = np.array([False, True]), np.array([True, True])
    group_aucs(scores, labels, both, np.zeros(1, dtype=np.int64))
    table = WeightTable(1, 1)
    swept = SortedPass(table.weights.shape[1], 2, 1, 1, np.array([0.5]))
    swept.add(scores, labels, table.places_of(hashes.view(np.int64)), table.weights)
    swept.finish()
