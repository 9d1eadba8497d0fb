"""Slices of row groups as tensors: one rank's share of a training step, or a scoring batch.

Shapes: G groups, N impressions, K tasks, Fc and Fi context and impression fields, Tc and Ti their tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from esmm_spark.feed.groups import GroupSlice, Layout


@dataclass(frozen=True)
class TokenBatch:
    """The tokens of G groups with N impressions: what a model reads, in training and in scoring.

    Attributes:
        context_rows: [Tc] int32, or int64 from 2^31 arena rows on.
        context_weights: [Tc] float32, of a field pooled by `mean` already divided by the bag's length.
        context_lengths: [G * Fc] int32, tokens of each bag, group by group.
        impression_rows: [Ti].
        impression_weights: [Ti].
        impression_lengths: [N * Fi], impression by impression.
        group_sizes: [G] int64, impressions of each group in this batch; their sum is N.
    """

    context_rows: Tensor
    context_weights: Tensor
    context_lengths: Tensor
    impression_rows: Tensor
    impression_weights: Tensor
    impression_lengths: Tensor
    group_sizes: Tensor


@dataclass(frozen=True)
class Batch(TokenBatch):
    """G groups with N impressions, both 0 where a rank has nothing left in a step.

    A group may be cut; its context is then in each of the batches that hold some of its impressions.

    Attributes:
        labels: [K, N] float32, 0 or 1, in the order of `Tasks.names`; UNKNOWN_LABEL where it isn't known.
        carried: carried column -> [N] float64, NaN where it is missing; none in scoring, whose scores take
            them from the row group as they are.
        group_hash: [G] int64, always on the CPU.
        starts_group: [G] bool, always on the CPU: whether the batch holds the group's first impression, so
            that a cut group's hash counts once in an epoch.
        keys: Arrow strings, [G] in all.
    """

    labels: Tensor
    carried: Mapping[str, Tensor]
    group_hash: Tensor
    starts_group: Tensor
    keys: tuple[pa.Array, ...]

    @property
    def num_impressions(self) -> int:
        """N."""
        return self.labels.shape[1]

    @property
    def group_keys(self) -> list[str]:
        """[G] what the groups share, for messages."""
        return [key for keys in self.keys for key in keys.to_pylist()]

    def num_missing(self) -> dict[str, int]:
        """Returns carried column -> impressions in which it is missing."""
        return {name: int(values.isnan().sum()) for name, values in self.carried.items()}

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch with all that a step computes with on `device`; on the CPU, itself."""
        if device.type == "cpu":
            return self
        names = [field.name for field in fields(self) if field.name not in _NOT_MOVED]
        moved: dict[str, Any] = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        carried = {name: values.to(device, non_blocking=True) for name, values in self.carried.items()}
        return replace(self, carried=carried, **moved)


_NOT_MOVED = ("carried", "group_hash", "starts_group", "keys")


def batch_of(slices: Sequence[GroupSlice], layout: Layout) -> Batch:
    """Returns the slices one after the other as a batch on memory of its own; no slices, an empty batch."""
    row_dtype = np.int32 if layout.spec.row_type == "int" else np.int64
    context = [part.context for part in slices]
    impression = [part.impression for part in slices]

    def joined(arrays: list[npt.NDArray[Any]], dtype: type[np.generic]) -> Tensor:
        # Arrow's memory is read-only, which torch takes no tensor on, so a single slice is copied, too.
        if not arrays:
            return torch.from_numpy(np.empty(0, dtype))
        return torch.from_numpy(np.concatenate(arrays, dtype=dtype))

    # Context's and impressions' tokens in one piece of memory: the look-up reads them as one.
    def both(column: int, dtype: type[np.generic]) -> tuple[Tensor, Tensor]:
        arrays = [tokens[column] for tokens in context]
        whole = joined(arrays + [tokens[column] for tokens in impression], dtype)
        middle = sum(map(len, arrays))
        return whole[:middle], whole[middle:]

    rows, weights, lengths = both(0, row_dtype), both(1, np.float32), both(2, np.int32)
    labels = [part.labels for part in slices] or [np.empty((len(layout.brought.tasks.names), 0), np.int8)]
    carried = () if layout.for_scoring else layout.brought.carry
    return Batch(
        context_rows=rows[0],
        context_weights=weights[0],
        context_lengths=lengths[0],
        impression_rows=rows[1],
        impression_weights=weights[1],
        impression_lengths=lengths[1],
        group_sizes=joined([part.group_sizes for part in slices], np.int64),
        labels=torch.from_numpy(np.concatenate(labels, axis=1, dtype=np.float32)),
        carried={
            name: joined([_floats(part.carried[name]) for part in slices], np.float64) for name in carried
        },
        group_hash=joined([part.hashes for part in slices], np.int64),
        starts_group=joined([part.starts_group for part in slices], np.bool_),
        keys=tuple(part.keys for part in slices),
    )


def _floats(values: pa.Array) -> npt.NDArray[np.float64]:
    """Returns numbers as float64, NaN for nulls."""
    floats: npt.NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return floats
