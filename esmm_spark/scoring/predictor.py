"""A model version as a function from Arrow batches of groups to Arrow batches of scores."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from esmm_spark.feed.batch import batch_of
from esmm_spark.feed.groups import UNKNOWN_LABEL, Groups, Layout
from esmm_spark.files.local_copy import localize
from esmm_spark.model.directory import load_dense, open_rows, read_info
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.serving import ServingEmbedding
from esmm_spark.model.objectives.probabilities import predict
from esmm_spark.runtime.arrays import Int8s
from esmm_spark.runtime.memory import keep_freed_memory
from esmm_spark.scoring.score_file import score_schema


class Predictor:
    """One model version, ready to score.

    The embedding stays in its file, memory-mapped: all workers of a host share one copy in the page cache.

    Args:
        model_uri: a complete model version; a remote one is copied to this host once.

    Attributes:
        info: what its model.json says.

    Raises:
        InputError: a file of it is missing, truncated or corrupt.
        IncompleteError: it is half-written.
        UnsafeFileError: it carries a pickle.
    """

    def __init__(self, model_uri: str) -> None:
        self.info = read_info(model_uri)
        local = localize(model_uri)
        self._dense = load_dense(local, self.info)
        self._embedding = ServingEmbedding(open_rows(local, self.info))

    def score_groups(self, groups: Groups, layout: Layout, batch_size: int) -> pa.RecordBatch:
        """Returns the scores of all impressions, in their order, with the columns of `score_schema`.

        Args:
            groups: a row group of the examples.
            layout: as it was read: for scoring, with the labels of the model's tasks.
            batch_size: impressions that go through the model at a time; bounds the memory, not the result.
        """
        assert groups.ids is not None
        probabilities = self._predict(groups, layout, batch_size)
        keys = np.repeat(np.arange(len(groups.keys), dtype=np.int32), groups.sizes)
        version = np.zeros(groups.num_impressions, np.int32)
        return pa.RecordBatch.from_arrays(
            [
                groups.ids,
                # 58 impressions have one key, and all of them one version: no bytes are copied.
                pa.DictionaryArray.from_arrays(pa.array(keys), groups.keys),
                *map(pa.array, probabilities),
                pa.DictionaryArray.from_arrays(pa.array(version), pa.array([self.info.model_version])),
                *(_nullable(labels) for labels in groups.labels),
                *groups.carried.values(),
            ],
            schema=score_schema(layout.brought),
        )

    def _predict(self, groups: Groups, layout: Layout, batch_size: int) -> npt.NDArray[np.float32]:
        """Returns [columns, N] the probabilities, as `Tasks.all_score_columns` has them."""
        columns = self.info.tasks.all_score_columns
        scores = np.empty((len(columns), groups.num_impressions), np.float32)
        spec = self.info.feature_spec
        with torch.inference_mode():
            for part in groups.slices(batch_size):
                batch = batch_of([part], layout)
                logits = self._dense(*embed_batch(self._embedding, batch, spec))
                scores[:, part.start : part.stop] = predict(logits, self.info.objective).numpy()
        return scores


def _nullable(labels: Int8s) -> pa.Array:
    """Returns [N] int8: one task's labels, null where they aren't known."""
    is_unknown = labels == UNKNOWN_LABEL
    return pa.array(labels, mask=is_unknown) if is_unknown.any() else pa.array(labels)


@lru_cache(maxsize=1)
def predictor_of(model_uri: str, model_version: str) -> Predictor:
    """Returns the process's predictor: Spark's Python workers outlive a task, and so do their models.

    Args:
        model_uri: the model version.
        model_version: its version, so that another model at the same URI is loaded anew.
    """
    # Spark runs a worker per core.
    torch.set_num_threads(1)
    keep_freed_memory()
    predictor = Predictor(model_uri)
    assert predictor.info.model_version == model_version, (predictor.info.model_version, model_version)
    return predictor
