"""Row groups of the examples as Arrow batches, read by the task that scores them."""

from collections.abc import Iterator

import pyarrow as pa

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.files import storage
from esmm_spark.files.examples_file import DamagedBlockError, read_footer, read_row_group
from esmm_spark.samples.grouping.batches import examples_schema
from esmm_spark.scoring.groups import GROUP_COLUMNS
from esmm_spark.scoring.work import Segment

_REMEDY = "run jobs/preprocess.py again"


def read_segment(dataset: str, segment: Segment, spec: FeatureSpec) -> Iterator[pa.RecordBatch]:
    """Yields the groups of the segment in their order, with the columns GROUP_COLUMNS, a row group at a time.

    Args:
        dataset: URI of the dataset.
        segment: which row groups.
        spec: the feature spec of the dataset.

    Raises:
        InputError: the file is missing, truncated, corrupt, lacks a column, or holds other groups than the
            manifest says.
    """
    uri = storage.join(dataset, segment.path)
    filesystem, path = storage.filesystem_of(uri)
    groups = impressions = 0
    try:
        with filesystem.open_input_file(path) as file:
            metadata = read_footer(file, segment.footer)
            _check_columns(uri, metadata.schema.to_arrow_schema(), spec)
            for index in range(segment.first, min(segment.last, metadata.num_row_groups)):
                block = segment.blocks[index - segment.first] if segment.blocks else None
                table = read_row_group(file, metadata, index, block, list(GROUP_COLUMNS))
                for batch in table.to_batches():
                    groups += batch.num_rows
                    impressions += len(batch.column("impression_id").flatten())
                    yield batch
    except FileNotFoundError as error:
        raise InputError(f"{uri} is missing: {_REMEDY}") from error
    except (DamagedBlockError, pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"can't read {uri}: it is truncated, corrupt or no Parquet file ({reason}): {_REMEDY}"
        ) from error
    if (groups, impressions) != (segment.groups, segment.impressions):
        raise InputError(
            f"{uri}: row groups {segment.first} to {segment.last - 1} hold {groups} groups with "
            f"{impressions} impressions, the manifest says {segment.groups} with {segment.impressions}: "
            f"{_REMEDY}"
        )


def _check_columns(uri: str, found: pa.Schema, spec: FeatureSpec) -> None:
    """Raises InputError unless the file's columns are those of the examples."""
    types = {field.name: field.type for field in examples_schema(spec)}
    for name in GROUP_COLUMNS:
        if name not in found.names:
            raise InputError(f"can't read {uri}: it has no column {name}: {_REMEDY}")
        if _without_nullability(found.field(name).type) != _without_nullability(types[name]):
            raise InputError(
                f"can't read {uri}: column {name} is {found.field(name).type}, not {types[name]}: {_REMEDY}"
            )


def _without_nullability(column_type: pa.DataType) -> pa.DataType:
    """Returns the type with nulls allowed in lists, as in datasets that others wrote."""
    # Two lists are equal whatever their elements are called.
    return pa.list_(column_type.value_type) if pa.types.is_list(column_type) else column_type
