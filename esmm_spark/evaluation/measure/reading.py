"""Reads row groups of a side's Parquet files to blocks of numbers, partitioned by impression id."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.features import HASH_SEED
from esmm_spark.evaluation.kernels.id_hashes import text_hashes
from esmm_spark.evaluation.kernels.weights import FREE
from esmm_spark.evaluation.measure.blocks import ColumnBlock, split
from esmm_spark.evaluation.measure.plan import Span, parts_by_hash
from esmm_spark.evaluation.measure.sides import IMPOSSIBLE, NOTES, SIDES, TITLES, UNKNOWN, SideColumns
from esmm_spark.files import filesystems

# Impressions that are partitioned at a time: some 10 MB.
_SHARED_OUT_AT_ONCE = 1 << 18
_BATCH_IMPRESSIONS = 1 << 16
_SECOND_SEED = 43
_ID = "impression_id"
_GROUP = "group_key"
_VERSION = "model_version"
# Versions that are named where there are several.
_MOST_VERSIONS = 3


def read_share(spans: Sequence[Span], columns: SideColumns, parts: int, task: int) -> Iterator[ColumnBlock]:
    """Yields the impressions of row groups, each to the part of its id's hash, and notes on them.

    Args:
        spans: what to read.
        columns: of the side.
        parts: their number.
        task: the number of this task, over all sides.

    Raises:
        InputError: a file is damaged.
    """
    dictionaries = (_GROUP, _VERSION) if columns.has_group else ()
    names = [_ID, *dictionaries, *columns.scores, *columns.labels]
    notes: dict[str, Any] = {"side": columns.series, "impressions": 0, "without_id": 0, "without_group": 0}
    versions: set[str | None] = set()
    pending: list[list[Any]] = []
    num_pending = flushed = 0
    for span in spans:
        for batch in _read(span, names, dictionaries, TITLES[columns.series]):
            numbers, without_id, without_group = _numbers(batch, columns)
            notes["impressions"] += batch.num_rows
            notes["without_id"] += without_id
            notes["without_group"] += without_group
            if columns.has_group and len(versions) < _MOST_VERSIONS:
                versions.update(pc.unique(batch.column(_VERSION)).to_pylist())
            pending.append(numbers)
            num_pending += batch.num_rows
            if num_pending >= _SHARED_OUT_AT_ONCE:
                yield from _blocks(pending, columns, parts, (task << 24) + flushed)
                pending, num_pending, flushed = [], 0, flushed + 1
    if pending:
        yield from _blocks(pending, columns, parts, (task << 24) + flushed)
    notes["versions"] = sorted(map(str, versions)) if None not in versions else [None]
    yield ColumnBlock(0, NOTES, task << 24, json.dumps(notes).encode())


def read_columns(
    span: Span, columns: SideColumns, most: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields the scores and labels of a row group's first impressions, `most` and perhaps a batch more."""
    names = [*columns.scores, *columns.labels]
    for batch in _read(span, names, (), TITLES[columns.series]):
        yield (
            {name: _scores(batch.column(name), columns.score_type) for name in columns.scores},
            {name: _labels(batch.column(name)) for name in columns.labels},
        )
        most -= batch.num_rows
        if most <= 0:
            return


def _blocks(pending: list[list[Any]], columns: SideColumns, parts: int, source: int) -> Iterator[ColumnBlock]:
    together = [np.concatenate(column) for column in zip(*pending, strict=True)]
    kind = SIDES.index(columns.series)
    for part, content in split(together, parts_by_hash(together[0], parts), parts):
        yield ColumnBlock(part, kind, source, content)


def _read(
    span: Span, names: list[str], dictionaries: tuple[str, ...], title: str
) -> Iterator[pa.RecordBatch]:
    """Yields the columns `names` of a row group, those of `dictionaries` as such."""
    filesystem, path = filesystems.filesystem_of(span.uri)
    read = 0
    try:
        with filesystem.open_input_file(path) as stream:
            file = pq.ParquetFile(stream, read_dictionary=list(dictionaries))
            for batch in file.iter_batches(_BATCH_IMPRESSIONS, [span.row_group], names):
                read += batch.num_rows
                yield batch
    except FileNotFoundError as error:
        raise InputError(f"{span.uri} was deleted while it was read: write it again") from error
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"{title} can't be read, {span.uri} is corrupt ({reason}): write it again"
        ) from error
    if read != span.num_impressions:
        raise InputError(
            f"{title}: row group {span.row_group} of {span.uri} has {read} impressions, "
            f"{span.num_impressions} by its footer: write it again"
        )


def _numbers(batch: pa.RecordBatch, columns: SideColumns) -> tuple[list[Any], int, int]:
    """Returns a batch's columns by `columns.layout`, without impressions that have no id; how many have none.

    The last number is that of impressions without a group.
    """
    ids = batch.column(_ID)
    without_id = ids.null_count
    if without_id:
        batch = batch.filter(ids.is_valid())
        ids = batch.column(_ID)
    groups, without_group = [], 0
    if columns.has_group:
        keys = batch.column(_GROUP)
        without_group = keys.null_count
        groups = [_group_hashes(keys)]
    return (
        [
            text_hashes(ids, HASH_SEED),
            text_hashes(ids, _SECOND_SEED),
            *groups,
            *(_scores(batch.column(name), columns.score_type) for name in columns.scores),
            *(_labels(batch.column(name)) for name in columns.labels),
        ],
        without_id,
        without_group,
    )


def _group_hashes(keys: pa.DictionaryArray) -> Any:
    """Returns int64 [N]: xxhash64 of group_key; two keys meet in it once in 2^64. 0 without a key."""
    if len(keys.dictionary) == 0:
        return np.zeros(len(keys), dtype=np.int64)
    hashes = text_hashes(keys.dictionary, HASH_SEED).view(np.int64)
    hashes[hashes == FREE] = FREE + 1
    indices = keys.indices
    places = pc.fill_null(indices, 0).to_numpy() if indices.null_count else indices.to_numpy()
    return np.take(hashes, places)


def _scores(column: pa.Array, kind: Any) -> Any:
    """Returns the scores [N], NaN for null; -0 becomes 0, whose bits are the least."""
    return column.to_numpy(zero_copy_only=False).astype(kind, copy=False) + kind(0)


def _labels(column: pa.Array) -> Any:
    """Returns int8 [N]: 0, 1, UNKNOWN for null, IMPOSSIBLE for anything else."""
    values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    labels = np.where((values == 0) | (values == 1), values, IMPOSSIBLE).astype(np.int8)
    if column.null_count:
        labels[column.is_null().to_numpy(zero_copy_only=False)] = UNKNOWN
    return labels
