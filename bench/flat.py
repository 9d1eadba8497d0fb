"""Batches flattened to one row per impression, as everyone but esmm_spark stores them.

Shapes: N impressions, F fields in the order context, impression; B = N * F bags, T tokens, L padded length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.feed.batch import Batch

IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class FlatBatch:
    """N impressions, each with all tokens of its context.

    Attributes:
        rows: [T] arena rows, impression by impression, field by field.
        weights: [T] float32.
        lengths: [N, F] int64, tokens of each bag.
        click: [N] float32.
        conversion: [N] float32.
    """

    rows: IntArray
    weights: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]
    click: npt.NDArray[np.float32]
    conversion: npt.NDArray[np.float32]

    @property
    def num_impressions(self) -> int:
        """N."""
        return len(self.click)


def flatten(batch: Batch, spec: FeatureSpec, wanted: npt.NDArray[np.int64] | None = None) -> FlatBatch:
    """Returns the batch with each context repeated for every impression of its group.

    Worked example: one group of 2 impressions, a context of 3 tokens, 1 and 2 tokens of their own: 9 tokens.

    Args:
        batch: the groups.
        spec: tells how many fields each level has.
        wanted: places of the impressions to return; all where None.
    """
    wanted = np.arange(batch.num_impressions) if wanted is None else wanted
    num_context, num_impression = len(spec.context_fields), len(spec.impression_fields)
    context_lengths = batch.context_lengths.numpy().astype(np.int64).reshape(-1, num_context)
    impression_lengths = batch.impression_lengths.numpy().astype(np.int64).reshape(-1, num_impression)
    group_index = np.repeat(np.arange(len(context_lengths)), batch.group_sizes.numpy())[wanted]
    lengths = np.concatenate([context_lengths[group_index], impression_lengths[wanted]], axis=1)
    context_starts = starts_of(context_lengths.ravel()).reshape(-1, num_context)[group_index]
    impression_starts = starts_of(impression_lengths.ravel()).reshape(-1, num_impression)
    starts = np.concatenate([context_starts, impression_starts[wanted] + len(batch.context_rows)], axis=1)
    index = expand(starts.ravel(), lengths.ravel())
    rows = np.concatenate([batch.context_rows.numpy(), batch.impression_rows.numpy()])
    weights = np.concatenate([batch.context_weights.numpy(), batch.impression_weights.numpy()])
    click, conversion = batch.labels.numpy()[:, wanted]
    return FlatBatch(rows[index], weights[index], lengths, click, conversion)


def shuffled(
    batches: Sequence[Batch], spec: FeatureSpec, batch_size: int, count: int, seed: int
) -> list[FlatBatch]:
    """Returns `count` batches of impressions drawn from all over `batches`, no impression twice.

    The order within a batch stays that of `batches`, which makes no difference to what a step costs.
    """
    ends = np.cumsum([batch.num_impressions for batch in batches])
    drawn = np.random.default_rng(seed).permutation(ends[-1])[: batch_size * count]
    found = []
    for part in np.array_split(drawn, count):
        owners = np.searchsorted(ends, part, side="right")
        flats = []
        for owner in np.unique(owners):
            places = np.sort(part[owners == owner]) - (ends[owner] - batches[owner].num_impressions)
            flats.append(flatten(batches[owner], spec, places))
        found.append(
            FlatBatch(
                *(
                    np.concatenate([getattr(flat, name) for flat in flats])
                    for name in ("rows", "weights", "lengths", "click", "conversion")
                )
            )
        )
    return found


def starts_of(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns where each bag begins. Example: lengths 2, 0, 3 give 0, 2, 2."""
    return np.cumsum(lengths) - lengths


def expand(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the places of all tokens of bags. Example: starts 5, 0 with lengths 2, 3 give 5, 6, 0, 1, 2."""
    first: npt.NDArray[np.int64] = np.repeat(starts - starts_of(lengths), lengths)
    return first + np.arange(lengths.sum())


def fields_in_order(spec: FeatureSpec) -> list[FieldSpec]:
    """Returns the F fields in the order of a flat batch's columns."""
    return [*spec.context_fields, *spec.impression_fields]


def padded(batches: Sequence[FlatBatch], spec: FeatureSpec, field: int, length: int) -> npt.NDArray[np.int32]:
    """Returns [N, L] buckets of one field: the first `length` values, 0 where there are fewer.

    Args:
        batches: the impressions.
        spec: tells the field's table.
        field: column of `lengths`.
        length: L.
    """
    first_row = spec.offsets[fields_in_order(spec)[field].table_name]
    columns = []
    for batch in batches:
        starts = starts_of(batch.lengths.ravel()).reshape(batch.lengths.shape)[:, field]
        place = np.arange(length)
        known = place < batch.lengths[:, field, None]
        buckets = batch.rows[np.where(known, starts[:, None] + place, 0)] - first_row
        columns.append(np.where(known, buckets, 0).astype(np.int32))
    return np.concatenate(columns)


def mean_lengths(batches: Sequence[FlatBatch]) -> list[int]:
    """Returns for each field its mean number of tokens an impression, rounded, at least 1."""
    total = sum(batch.lengths.sum(axis=0) for batch in batches)
    count = sum(batch.num_impressions for batch in batches)
    return [max(1, round(float(tokens) / count)) for tokens in total]
