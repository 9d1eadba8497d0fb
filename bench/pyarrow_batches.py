"""The loader's peer: pyarrow alone reading the same files into the same batches, one after the other.

No threads of its own, no checks, no exactly-once bookkeeping, nothing read ahead. Legend: G groups, N
impressions, Fc and Fi context and impression fields, T tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.feed.plan import EpochPlan, Read
from esmm_spark.files.storage import join

_LISTS = (
    "context_rows",
    "context_weights",
    "context_lengths",
    "impression_rows",
    "impression_weights",
    "impression_lengths",
)
_TASKS = ("click", "conversion")
_COLUMNS = [*_TASKS, *_LISTS]

Array = np.ndarray[Any, Any]


@dataclass
class _Open:
    """A row group that batches are being cut from.

    Attributes:
        columns: column -> its values, group after group.
        ends: [G + 1] the first impression of each group.
        context_tokens: [G + 1] the first context token of each group.
        impression_tokens: [N + 1] the first token of each impression.
        start: the next impression.
        stop: the impression after the last one.
    """

    columns: dict[str, Array]
    ends: Array
    context_tokens: Array
    impression_tokens: Array
    start: int
    stop: int


def pyarrow_batches(dataset: str, plan: EpochPlan, spec: FeatureSpec) -> Iterator[dict[str, Tensor]]:
    """Yields the batches of an epoch of one rank as tensors by name."""
    files: dict[str, pq.ParquetFile] = {}
    reads = iter(plan.reads(0, 1))
    opened: dict[int, list[_Open]] = {stream: [] for stream in range(plan.num_streams)}
    for step in range(plan.num_steps):
        parts: list[dict[str, Array]] = []
        for stream, queue in opened.items():
            needed = plan.impressions_of_stream(step, stream)
            while sum(item.stop - item.start for item in queue) < needed:
                read = next(reads)
                opened[read.stream].append(_read(dataset, plan, read, files, spec))
            while needed:
                taken = min(needed, queue[0].stop - queue[0].start)
                parts.append(_cut(queue[0], taken, spec))
                needed -= taken
                if queue[0].start == queue[0].stop:
                    queue.pop(0)
        yield {
            name: torch.from_numpy(np.concatenate([part[name] for part in parts], axis=-1))
            for name in parts[0]
        }


def _read(
    dataset: str, plan: EpochPlan, read: Read, files: dict[str, pq.ParquetFile], spec: FeatureSpec
) -> _Open:
    row_group = plan.row_groups[read.row_group]
    if row_group.path not in files:
        files[row_group.path] = pq.ParquetFile(join(dataset, row_group.path))
    table: pa.Table = files[row_group.path].read_row_group(row_group.index, columns=_COLUMNS).combine_chunks()
    columns = {name: _values(table, name) for name in _COLUMNS}
    offsets = table.column("click").chunk(0).offsets.to_numpy()
    context = columns["context_lengths"].reshape(-1, len(spec.context_fields)).sum(axis=1)
    own = columns["impression_lengths"].reshape(-1, len(spec.impression_fields)).sum(axis=1)
    return _Open(columns, offsets, _offsets(context), _offsets(own), read.start, read.stop)


def _cut(item: _Open, count: int, spec: FeatureSpec) -> dict[str, Array]:
    """Returns the next `count` impressions with the contexts of their groups."""
    start, stop = item.start, item.start + count
    item.start = stop
    first = int(np.searchsorted(item.ends, start, side="right")) - 1
    last = int(np.searchsorted(item.ends, stop, side="left"))
    num_context, num_own = len(spec.context_fields), len(spec.impression_fields)
    context = slice(item.context_tokens[first], item.context_tokens[last])
    own = slice(item.impression_tokens[start], item.impression_tokens[stop])
    columns = item.columns
    return {
        "context_rows": columns["context_rows"][context],
        "context_weights": columns["context_weights"][context],
        "context_lengths": columns["context_lengths"][first * num_context : last * num_context],
        "impression_rows": columns["impression_rows"][own],
        "impression_weights": columns["impression_weights"][own],
        "impression_lengths": columns["impression_lengths"][start * num_own : stop * num_own],
        "group_sizes": np.diff(np.clip(item.ends[first : last + 1], start, stop)),
        "labels": np.stack([columns[task][start:stop] for task in _TASKS]).astype(np.float32),
    }


def _values(table: pa.Table, name: str) -> Array:
    values: Array = table.column(name).chunk(0).flatten().to_numpy()
    return values


def _offsets(lengths: Array) -> Array:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
