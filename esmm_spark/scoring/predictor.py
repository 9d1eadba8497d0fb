"""A model version as a function from Arrow batches of groups to Arrow batches of scores."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from esmm_spark.files.local_copy import localize
from esmm_spark.model.directory import load_dense, open_rows, read_info
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.serving import ServingEmbedding
from esmm_spark.model.esmm import predict
from esmm_spark.runtime.memory import keep_freed_memory
from esmm_spark.scoring.groups import Groups, Slice, read_groups, read_labels
from esmm_spark.scoring.score_file import SCORE_SCHEMA


@dataclass(frozen=True)
class TokenBatch:
    """A slice of groups as tensors on the CPU, of the shape that `embed_batch` reads.

    Attributes:
        context_rows: [Tc] int32 or int64.
        context_weights: [Tc] float32, divided by the number of values where the field's pooling is `mean`.
        context_lengths: [G * Fc] int32.
        impression_rows: [Ti].
        impression_weights: [Ti].
        impression_lengths: [N * Fi].
        group_sizes: [G] int64.
    """

    context_rows: torch.Tensor
    context_weights: torch.Tensor
    context_lengths: torch.Tensor
    impression_rows: torch.Tensor
    impression_weights: torch.Tensor
    impression_lengths: torch.Tensor
    group_sizes: torch.Tensor

    @classmethod
    def of(cls, part: Slice) -> "TokenBatch":
        """Returns the tensors of a slice, copied: Arrow's memory is read-only, which torch refuses."""
        arrays = (*part.context, *part.impression, part.group_sizes)
        return cls(*(torch.from_numpy(array.copy()) for array in arrays))


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

    def score_groups(self, batch: pa.RecordBatch, batch_size: int) -> pa.RecordBatch:
        """Returns the scores of all impressions of `batch`, in their order, with the columns SCORE_SCHEMA.

        Args:
            batch: one row per group, with the columns `groups.GROUP_COLUMNS`.
            batch_size: impressions that go through the model at a time; bounds the memory, not the result.

        Raises:
            InputError: a group's lists don't fit together.
        """
        spec = self.info.feature_spec
        groups = read_groups(batch, spec)
        pctr, pcvr, pctcvr = self._predict(groups, batch_size)
        sizes = groups.sizes
        keys = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        version = np.zeros(groups.num_impressions, np.int32)
        return pa.RecordBatch.from_arrays(
            [
                batch.column("impression_id").flatten(),
                # 58 impressions have one key, and all of them one version: no bytes are copied.
                pa.DictionaryArray.from_arrays(pa.array(keys), batch.column("group_key")),
                pa.array(pctr),
                pa.array(pcvr),
                pa.array(pctcvr),
                pa.DictionaryArray.from_arrays(pa.array(version), pa.array([self.info.model_version])),
                read_labels(batch, "click", sizes),
                read_labels(batch, "conversion", sizes),
            ],
            schema=SCORE_SCHEMA,
        )

    def _predict(self, groups: Groups, batch_size: int) -> npt.NDArray[np.float32]:
        """Returns [3, N]: pctr, pcvr and pctcvr."""
        scores = np.empty((3, groups.num_impressions), np.float32)
        with torch.inference_mode():
            for part in groups.slices(batch_size):
                tokens = TokenBatch.of(part)
                context, impression = embed_batch(self._embedding, tokens, self.info.feature_spec)
                predictions = predict(self._dense(context, impression, tokens.group_sizes))
                for row, values in zip(scores, predictions, strict=True):
                    row[part.start : part.stop] = values.numpy()
        return scores


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
