r"""Canonical lines, which are Ali-CCP's raw lines: the columns before the tokens.

    skeleton         sample_id,click,conversion,common_feature_index,num_tokens,tokens
    common features  common_feature_index,num_tokens,tokens

Other logs are brought into the same form. Their impressions have a label for each task in the place of click
and conversion, and carried values behind the common feature index:

    sample_id,label 1,...,label K,common_feature_index,carried 1,...,carried C,num_tokens,tokens

Columns are cut at the first commas of the line, so a comma in a token's value is part of the value. A
trailing \r is no part of the line. Nothing is quoted: a quote is a character like any other.
"""

from typing import NamedTuple

import numpy as np

from esmm_spark.contracts.tasks import NO_PARENT, Tasks
from esmm_spark.logs.compiling import kernel
from esmm_spark.logs.reasons import (
    ACCEPTED,
    BAD_LABEL,
    FIRST_ORPHAN,
    INVALID_UTF8,
    MISSING_ID,
    TOO_FEW_COLUMNS,
)
from esmm_spark.runtime.arrays import Bytes, Int8s

# A label that an unlabelled log leaves empty.
NO_LABEL = -1
NOT_A_COUNT = -1

_COMMA, _CARRIAGE_RETURN, _ZERO, _ONE, _NINE = b",\r019"
_MAX_COUNT = 1 << 40


class LineColumns(NamedTuple):
    """Which columns an impression's line has, and what its labels must fulfil.

    Attributes:
        parents: int8 [K], the number of each task's parent, or NO_PARENT.
        num_carried: C, carried values.
        labels_required: if false, labels may be empty: NO_LABEL stands for them.
    """

    parents: Int8s
    num_carried: int
    labels_required: bool


def line_columns(tasks: Tasks, num_carried: int, labels_required: bool) -> LineColumns:
    """Returns the columns of lines that bring labels of `tasks`."""
    return LineColumns(np.array(tasks.parents, dtype=np.int8), num_carried, labels_required)


@kernel
def trim(data: Bytes, start: int, end: int) -> int:
    """Returns the end of the line `data[start:end]` without a trailing carriage return."""
    if end > start and data[end - 1] == _CARRIAGE_RETURN:
        return end - 1
    return end


@kernel
def parse_context(data: Bytes, start: int, end: int) -> tuple[int, int, int, int]:
    """Returns (reason, end of the index, token count, start of the tokens) of a common features line.

    The index begins at `start`. All but the reason is 0 unless that is ACCEPTED.
    """
    if not is_utf8(data, start, end):
        return INVALID_UTF8, 0, 0, 0
    index_end = find_comma(data, start, end)
    count_end = find_comma(data, index_end + 1, end)
    if count_end >= end:
        return TOO_FEW_COLUMNS, 0, 0, 0
    if index_end == start:
        return MISSING_ID, 0, 0, 0
    return ACCEPTED, index_end, _parse_count(data, index_end + 1, count_end), count_end + 1


@kernel
def parse_impression(
    data: Bytes, start: int, end: int, columns: LineColumns, labels: Int8s
) -> tuple[int, int, int, int, int, int]:
    """Returns (reason, id end, index start, index end, token count, start of the tokens) of a skeleton line.

    The id begins at `start`, the first carried value behind the comma at the index's end. All but the reason
    is 0 unless that is ACCEPTED.

    Args:
        data: uint8, the raw bytes.
        start: the first byte of a skeleton line.
        end: the byte after its last.
        columns: which columns it has.
        labels: int8 [K], output: 0, 1 or NO_LABEL.
    """
    if not is_utf8(data, start, end):
        return INVALID_UTF8, 0, 0, 0, 0, 0
    id_end = find_comma(data, start, end)
    labels_end = id_end
    for _ in range(columns.parents.shape[0]):
        labels_end = find_comma(data, labels_end + 1, end)
    index_end = find_comma(data, labels_end + 1, end)
    carried_end = index_end
    for _ in range(columns.num_carried):
        carried_end = find_comma(data, carried_end + 1, end)
    count_end = find_comma(data, carried_end + 1, end)
    if count_end >= end:
        return TOO_FEW_COLUMNS, 0, 0, 0, 0, 0
    if id_end == start or index_end == labels_end + 1:
        return MISSING_ID, 0, 0, 0, 0, 0
    reason = _parse_labels(data, id_end + 1, columns, labels)
    if reason != ACCEPTED:
        return reason, 0, 0, 0, 0, 0
    count = _parse_count(data, carried_end + 1, count_end)
    return ACCEPTED, id_end, labels_end + 1, index_end, count, count_end + 1


@kernel
def _parse_labels(data: Bytes, start: int, columns: LineColumns, labels: Int8s) -> int:
    """Reads K labels, each followed by a comma, into `labels`; returns the reason if one is wrong.

    Where a label is unknown, those that are given it must be unknown, too.
    """
    parents, position = columns.parents, start
    for task in range(parents.shape[0]):
        parent, byte = parents[task], data[position]
        if byte == _COMMA:
            if columns.labels_required:
                return BAD_LABEL
            labels[task] = NO_LABEL
            position += 1
            continue
        is_label = _ZERO <= byte <= _ONE and data[position + 1] == _COMMA
        if not is_label or (parent != NO_PARENT and labels[parent] == NO_LABEL):
            return BAD_LABEL
        labels[task] = byte - _ZERO
        position += 2
    for task in range(parents.shape[0]):
        parent = parents[task]
        if parent != NO_PARENT and labels[task] == 1 and labels[parent] == 0:
            return FIRST_ORPHAN + task
    return ACCEPTED


@kernel
def _parse_count(data: Bytes, start: int, end: int) -> int:
    """Returns the decimal integer `data[start:end]`, or NOT_A_COUNT."""
    if start == end:
        return NOT_A_COUNT
    count = 0
    for i in range(start, end):
        byte = int(data[i])
        if byte < _ZERO or byte > _NINE:
            return NOT_A_COUNT
        count = min(count * 10 + byte - _ZERO, _MAX_COUNT)
    return count


@kernel
def find_impression_key(data: Bytes, start: int, end: int, num_labels: int) -> tuple[int, int]:
    """Returns where the common feature index of a skeleton line begins and ends.

    A line with fewer columns gets its last one: it is rejected, whatever group it is sorted into.
    """
    key_start, key_end = start, find_comma(data, start, end)
    for _ in range(num_labels + 1):
        if key_end >= end:
            break
        key_start = key_end + 1
        key_end = find_comma(data, key_start, end)
    return key_start, min(key_end, end)


@kernel
def find_comma(data: Bytes, position: int, end: int) -> int:
    """Returns the position of the first comma from `position` on, or `end` or more where there is none."""
    while position < end and data[position] != _COMMA:
        position += 1
    return position


@kernel
def is_utf8(data: Bytes, start: int, end: int) -> bool:
    """Returns whether `data[start:end]` is well-formed UTF-8 (no overlong forms, no surrogates)."""
    union = 0
    for i in range(start, end):
        union |= data[i]
    return union < 0x80 or _is_multibyte_utf8(data, start, end)


@kernel
def _is_multibyte_utf8(data: Bytes, start: int, end: int) -> bool:
    """`is_utf8` of bytes that aren't all ASCII. Source: The Unicode Standard 15.0, table 3-7."""
    position = start
    while position < end:
        lead = data[position]
        if lead < 0x80:
            position += 1
            continue
        lowest, highest = 0x80, 0xBF
        if 0xC2 <= lead <= 0xDF:
            num_following = 1
        elif 0xE0 <= lead <= 0xEF:
            num_following = 2
            lowest = 0xA0 if lead == 0xE0 else 0x80
            highest = 0x9F if lead == 0xED else 0xBF
        elif 0xF0 <= lead <= 0xF4:
            num_following = 3
            lowest = 0x90 if lead == 0xF0 else 0x80
            highest = 0x8F if lead == 0xF4 else 0xBF
        else:
            return False
        if position + num_following >= end or not lowest <= data[position + 1] <= highest:
            return False
        for i in range(position + 2, position + num_following + 1):
            if data[i] & 0xC0 != 0x80:
                return False
        position += num_following + 1
    return True
