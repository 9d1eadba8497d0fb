"""Hashes the tokens of one line to arena rows, in the order of the examples: field by field."""

from typing import NamedTuple

import numpy as np

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.logs.compiling import kernel
from esmm_spark.logs.reasons import ACCEPTED, SEVERAL_VALUES, TOKEN_COUNT_MISMATCH
from esmm_spark.logs.tokens import FieldNames, TokenBuffers, field_names, scan_tokens, token_buffers
from esmm_spark.runtime.arrays import Bytes, Float32s, Int32s, Int64s
from esmm_spark.samples.grouping.buffers import Rows
from esmm_spark.samples.hashing.values import FieldTable, field_table, hash_value, row_of_hash, row_of_number


class Workspace(NamedTuple):
    """The compiled feature spec, and buffers for one line's tokens.

    Attributes:
        names: finds a field by its name.
        table: turns a field's values into rows.
        tokens: one line's tokens.
        bags: int64 [fields], a number for each bag of one line.
    """

    names: FieldNames
    table: FieldTable
    tokens: TokenBuffers
    bags: Int64s


def workspace(spec: FeatureSpec, max_line_bytes: int, frequent_hashes: dict[str, Int64s]) -> Workspace:
    """Returns the workspace for lines of at most `max_line_bytes`; `frequent_hashes` as in `field_table`."""
    return Workspace(
        names=field_names(spec),
        table=field_table(spec, max_line_bytes, frequent_hashes),
        tokens=token_buffers(max_line_bytes),
        bags=np.zeros(len(spec.fields), dtype=np.int64),
    )


@kernel
def parse_tokens(
    data: Bytes, start: int, end: int, count: int, level: int, work: Workspace
) -> tuple[int, int, int, int]:
    """Returns (reason, tokens, cut tokens, unknown tokens) of `data[start:end]`, and fills `work.tokens`.

    A field's tokens after its first `max_length` are cut: left out of `work.tokens`, and counted.

    Args:
        data: uint8, the raw bytes.
        start: the first byte of the line's tokens.
        end: the byte after the last.
        count: how many the line says it has.
        level: CONTEXT_LEVEL or IMPRESSION_LEVEL.
        work: `tokens` is output.
    """
    reason, num_tokens, num_known = scan_tokens(data, start, end, work.names, level, work.tokens)
    if reason != ACCEPTED:
        return reason, 0, 0, 0
    if num_tokens != count:
        return TOKEN_COUNT_MISMATCH, 0, 0, 0
    tokens, values = work.tokens, work.bags
    values[:] = 0
    kept = 0
    for token in range(num_known):
        field = tokens.field[token]
        values[field] += 1
        if values[field] > 1 and not work.table.multi[field]:
            return SEVERAL_VALUES, 0, 0, 0
        if values[field] > work.table.max_length[field]:
            continue
        if kept < token:
            tokens.field[kept], tokens.weight[kept] = field, tokens.weight[token]
            tokens.value_start[kept], tokens.value_end[kept] = (
                tokens.value_start[token],
                tokens.value_end[token],
            )
        kept += 1
    return ACCEPTED, kept, num_known - kept, num_tokens - num_known


@kernel
def place_tokens(
    data: Bytes, num_tokens: int, work: Workspace, rows: Rows, weights: Float32s, first: int, lengths: Int32s
) -> None:
    """Writes rows and weights of `work.tokens` from place `first` on, field by field, in line order.

    Args:
        data: uint8, the raw bytes.
        num_tokens: how many of `work.tokens` are in use.
        work: the tokens, and how they become rows.
        rows: output.
        weights: output, 1 where the field isn't weighted.
        first: the place of the line's first token in both.
        lengths: output, int32 [fields of the level], the tokens of each field.
    """
    table, tokens, next_place = work.table, work.tokens, work.bags
    lengths[:] = 0
    for token in range(num_tokens):
        lengths[table.position[tokens.field[token]]] += 1
    place = first
    for position in range(lengths.shape[0]):
        next_place[position] = place
        place += lengths[position]
    for token in range(num_tokens):
        field = tokens.field[token]
        start, end = tokens.value_start[token], tokens.value_end[token]
        position = table.position[field]
        place = next_place[position]
        if table.numbered[field]:
            rows[place] = row_of_number(data, start, end, field, table)
        else:
            rows[place] = row_of_hash(hash_value(data, start, end, field, table), field, table)
        weights[place] = tokens.weight[token] if table.weighted[field] else np.float32(1.0)
        next_place[position] = place + 1
