"""An exploded view of the examples: one record per impression, a column per field, values as buckets."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.field_spec import Level
from esmm_spark.contracts.impressions import DEFAULT_COLUMNS, ImpressionColumns
from esmm_spark.contracts.schemas.columns import ddl_of, view_columns
from esmm_spark.runtime.arrays import Int64s


def samples_view(
    examples: DataFrame, spec: FeatureSpec, brought: ImpressionColumns = DEFAULT_COLUMNS
) -> DataFrame:
    """Returns one record per impression: its ids, labels, carried columns, and a column per field.

    The columns are `columns.view_columns` and the fields by their names. A field is array<bigint>: the
    buckets of its values, empty where it is missing, 0 where a value is rare.

    Args:
        examples: the columns of `columns.example_columns`, of any number of partitions.
        spec: the feature spec of the dataset.
        brought: labels and carried columns of the dataset, `Manifest.brought`.
    """
    fields = [f"`{field.name.replace('`', '``')}` array<bigint>" for field in spec.fields]

    def explode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield explode_groups(batch, spec, brought)

    columns = view_columns(brought.tasks.names, brought.carry)
    return examples.mapInArrow(explode, ", ".join([ddl_of(columns), *fields]))


def explode_groups(examples: pa.RecordBatch, spec: FeatureSpec, brought: ImpressionColumns) -> pa.RecordBatch:
    """Returns the impressions of a batch of groups, in their order: the columns of `samples_view`."""
    ids = examples.column("impression_id")
    sizes = np.diff(ids.offsets.to_numpy()).astype(np.int64)
    group_of_impression = np.repeat(np.arange(examples.num_rows), sizes)
    columns = {
        "impression_id": ids.flatten(),
        "group_key": examples.column("group_key").take(pa.array(group_of_impression)),
        **{name: examples.column(name).flatten() for name in (*brought.tasks.names, *brought.carry)},
    }
    of_context = _buckets(examples, spec, "context")
    of_impression = _buckets(examples, spec, "impression")
    for field in spec.fields:
        if field.level == "context":
            columns[field.name] = of_context[field.name].take(pa.array(group_of_impression))
        else:
            columns[field.name] = of_impression[field.name]
    return pa.record_batch(list(columns.values()), names=list(columns))


def _buckets(examples: pa.RecordBatch, spec: FeatureSpec, level: Level) -> dict[str, pa.ListArray]:
    """Returns field name -> the buckets of each group (context) or impression."""
    fields = spec.of_level(level)
    rows = examples.column(f"{level}_rows").flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    lengths: Int64s = examples.column(f"{level}_lengths").flatten().to_numpy().astype(np.int64)
    # [groups or impressions, fields]
    lengths = lengths.reshape(-1, len(fields)) if fields else lengths.reshape(0, 0)
    field_of_row = np.repeat(np.tile(np.arange(len(fields)), len(lengths)), lengths.reshape(-1))
    buckets = {}
    for index, field in enumerate(fields):
        offsets = np.concatenate([[0], np.cumsum(lengths[:, index])]).astype(np.int32)
        values = rows[field_of_row == index] - spec.offsets[field.table_name]
        buckets[field.name] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
    return buckets
