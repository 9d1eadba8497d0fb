"""The grouping kernel: a sort-merge join of raw lines to impression groups, in one pass.

The lines come sorted by group key, a key's context first, then its impressions by their bytes. So a line with
a new key can only be a context that opens a group; equal ids within a group are neighbours; and an impression
whose key isn't the open group's has no context.
"""

from typing import NamedTuple

from esmm_spark.logs.aliccp import LineColumns, parse_context, parse_impression, trim
from esmm_spark.logs.compiling import kernel
from esmm_spark.logs.lines import CONTEXT, REPEATED_IMPRESSION, Lines
from esmm_spark.logs.reasons import (
    ACCEPTED,
    DUPLICATE_CONTEXT,
    DUPLICATE_IMPRESSION,
    UNKNOWN_CONTEXT,
)
from esmm_spark.logs.tokens import CONTEXT_LEVEL, IMPRESSION_LEVEL, MIN_TOKEN_BYTES
from esmm_spark.runtime.arrays import Bytes
from esmm_spark.runtime.byte_kernels import same_bytes
from esmm_spark.samples.grouping.buffers import (
    IS_OPEN,
    NUM_CONTEXT_TOKENS,
    NUM_ID_BYTES,
    NUM_IMPRESSION_TOKENS,
    NUM_IMPRESSIONS,
    NUM_KEY_BYTES,
    NUM_PARTS,
    PART,
    Counts,
    GroupBuffers,
)
from esmm_spark.samples.grouping.placing import Workspace, parse_tokens, place_tokens

_COMMA = ord(",")


class GroupingRules(NamedTuple):
    """What makes an impression acceptable, and a part full.

    Attributes:
        max_group_size: impressions of a part.
        columns: which columns the impressions' lines have.
    """

    max_group_size: int
    columns: LineColumns


@kernel
def group_lines(
    lines: Lines, first_line: int, work: Workspace, rules: GroupingRules, groups: GroupBuffers, counts: Counts
) -> int:
    """Groups lines from `first_line` on; returns the first that does not fit into `groups`, or their number.

    Sets `lines.reason` of every line that it took.
    """
    num_lines = lines.starts.shape[0]
    for line in range(first_line, num_lines):
        start = int(lines.starts[line])
        end = trim(lines.data, start, int(lines.ends[line]))
        if not _fits(groups, end - start, rules.columns.num_carried):
            return line
        if lines.kind[line] == CONTEXT:
            reason = _take_context(lines.data, start, end, work, groups, counts)
            counts.by_reason[0, reason] += 1
        else:
            repeated = lines.kind[line] == REPEATED_IMPRESSION
            reason = _take_impression(lines.data, start, end, repeated, work, rules, groups, counts)
            counts.by_reason[1, reason] += 1
        lines.reason[line] = reason
    return num_lines


@kernel
def close_group(groups: GroupBuffers, counts: Counts) -> None:
    """Closes the open group, if there is one: its last part is complete, or dropped without impressions."""
    cursor = groups.cursor
    if cursor[IS_OPEN] == 0:
        return
    cursor[IS_OPEN] = 0
    part = cursor[NUM_PARTS]
    if cursor[NUM_IMPRESSIONS] == groups.impression_offsets[part]:
        cursor[NUM_KEY_BYTES] = groups.key_offsets[part]
        cursor[NUM_CONTEXT_TOKENS] = groups.context_offsets[part]
        counts.idle_contexts[0] += 1
        return
    _close_part(groups)


@kernel
def _fits(groups: GroupBuffers, num_bytes: int, num_carried: int) -> bool:
    """Returns whether a line of `num_bytes` fits, even if it opens a part with a copy of the context."""
    cursor = groups.cursor
    part = cursor[NUM_PARTS]
    num_tokens = num_bytes // MIN_TOKEN_BYTES + 1
    open_context = cursor[NUM_CONTEXT_TOKENS] - groups.context_offsets[part]
    open_key = cursor[NUM_KEY_BYTES] - groups.key_offsets[part]
    return bool(
        part + 2 < groups.key_offsets.shape[0]
        and cursor[NUM_KEY_BYTES] + num_bytes + open_key <= groups.key_bytes.shape[0]
        and cursor[NUM_IMPRESSIONS] + 1 < groups.id_offsets.shape[0]
        and cursor[NUM_ID_BYTES] + num_bytes <= groups.id_bytes.shape[0]
        and (
            num_carried == 0
            or groups.carried_offsets[cursor[NUM_IMPRESSIONS] * num_carried] + num_bytes
            <= groups.carried_bytes.shape[0]
        )
        and cursor[NUM_CONTEXT_TOKENS] + num_tokens + open_context <= groups.context_rows.shape[0]
        and cursor[NUM_IMPRESSION_TOKENS] + num_tokens <= groups.impression_rows.shape[0]
    )


@kernel
def _take_context(
    data: Bytes, start: int, end: int, work: Workspace, groups: GroupBuffers, counts: Counts
) -> int:
    """Opens a group with the context line `data[start:end]`; returns the reason if it can't."""
    reason, key_end, count, tokens_start = parse_context(data, start, end)
    if reason != ACCEPTED:
        return reason
    reason, num_known, num_cut, num_unknown = parse_tokens(
        data, tokens_start, end, count, CONTEXT_LEVEL, work
    )
    if reason != ACCEPTED:
        return reason
    if _is_open_key(data, start, key_end, groups):
        return DUPLICATE_CONTEXT
    close_group(groups, counts)
    cursor = groups.cursor
    part, key_start = cursor[NUM_PARTS], cursor[NUM_KEY_BYTES]
    for i in range(key_end - start):
        groups.key_bytes[key_start + i] = data[start + i]
    cursor[NUM_KEY_BYTES] += key_end - start
    first = cursor[NUM_CONTEXT_TOKENS]
    place_tokens(
        data,
        num_known,
        work,
        groups.context_rows,
        groups.context_weights,
        first,
        groups.context_lengths[part],
    )
    cursor[NUM_CONTEXT_TOKENS] += num_known
    cursor[IS_OPEN], cursor[PART] = 1, 0
    counts.unknown_tokens[0] += num_unknown
    counts.cut_tokens[0] += num_cut
    return ACCEPTED


@kernel
def _take_impression(
    data: Bytes,
    start: int,
    end: int,
    repeated: bool,
    work: Workspace,
    rules: GroupingRules,
    groups: GroupBuffers,
    counts: Counts,
) -> int:
    """Adds the impression line `data[start:end]` to the open group; returns the reason if it can't."""
    cursor = groups.cursor
    impression, id_start = cursor[NUM_IMPRESSIONS], cursor[NUM_ID_BYTES]
    header = parse_impression(data, start, end, rules.columns, groups.labels[impression])
    reason, id_end, key_start, key_end, count, tokens_start = header
    if reason != ACCEPTED:
        return reason
    # Only contexts have fields whose tokens are cut.
    reason, num_known, _, num_unknown = parse_tokens(data, tokens_start, end, count, IMPRESSION_LEVEL, work)
    if reason != ACCEPTED:
        return reason
    if not _is_open_key(data, key_start, key_end, groups):
        return UNKNOWN_CONTEXT
    if repeated or _is_last_id(data, start, id_end, groups):
        return DUPLICATE_IMPRESSION
    if impression - groups.impression_offsets[cursor[NUM_PARTS]] == rules.max_group_size:
        _close_part(groups)
        _open_next_part(groups)
    for i in range(id_end - start):
        groups.id_bytes[id_start + i] = data[start + i]
    cursor[NUM_ID_BYTES] += id_end - start
    groups.id_offsets[impression + 1] = cursor[NUM_ID_BYTES]
    if rules.columns.num_carried > 0:
        _take_carried(data, key_end + 1, rules.columns.num_carried, groups)
    lengths, first = groups.impression_lengths[impression], cursor[NUM_IMPRESSION_TOKENS]
    place_tokens(data, num_known, work, groups.impression_rows, groups.impression_weights, first, lengths)
    cursor[NUM_IMPRESSION_TOKENS] += num_known
    cursor[NUM_IMPRESSIONS] += 1
    counts.unknown_tokens[1] += num_unknown
    return ACCEPTED


@kernel
def _take_carried(data: Bytes, position: int, num_carried: int, groups: GroupBuffers) -> None:
    """Adds the next impression's carried values, each ended by a comma, from `position` on."""
    place = groups.cursor[NUM_IMPRESSIONS] * num_carried
    size = groups.carried_offsets[place]
    for i in range(place, place + num_carried):
        # A value ends within the line: `parse_impression` found the comma.
        while data[position] != _COMMA:
            groups.carried_bytes[size] = data[position]
            size, position = size + 1, position + 1
        position += 1
        groups.carried_offsets[i + 1] = size


@kernel
def _is_open_key(data: Bytes, start: int, end: int, groups: GroupBuffers) -> bool:
    """Returns whether `data[start:end]` is the key of the open group."""
    if groups.cursor[IS_OPEN] == 0:
        return False
    key_start = groups.key_offsets[groups.cursor[NUM_PARTS]]
    return same_bytes(data, start, end, groups.key_bytes, key_start, groups.cursor[NUM_KEY_BYTES])


@kernel
def _is_last_id(data: Bytes, start: int, end: int, groups: GroupBuffers) -> bool:
    """Returns whether `data[start:end]` is the id of the open part's last impression.

    That sees all: a full part stays open until the next impression is known to be another one.
    """
    impression = groups.cursor[NUM_IMPRESSIONS]
    if impression == groups.impression_offsets[groups.cursor[NUM_PARTS]]:
        return False
    id_start, id_end = groups.id_offsets[impression - 1], groups.id_offsets[impression]
    return same_bytes(data, start, end, groups.id_bytes, id_start, id_end)


@kernel
def _close_part(groups: GroupBuffers) -> None:
    """Completes the open part: its number and its ends."""
    cursor = groups.cursor
    part = cursor[NUM_PARTS]
    groups.part_number[part] = cursor[PART]
    groups.key_offsets[part + 1] = cursor[NUM_KEY_BYTES]
    groups.impression_offsets[part + 1] = cursor[NUM_IMPRESSIONS]
    groups.context_offsets[part + 1] = cursor[NUM_CONTEXT_TOKENS]
    groups.token_offsets[part + 1] = cursor[NUM_IMPRESSION_TOKENS]
    cursor[NUM_PARTS] += 1


@kernel
def _open_next_part(groups: GroupBuffers) -> None:
    """Opens the next part of the group whose last part was just closed: same key, same context."""
    cursor = groups.cursor
    part = cursor[NUM_PARTS]
    for i in range(groups.key_offsets[part - 1], groups.key_offsets[part]):
        groups.key_bytes[cursor[NUM_KEY_BYTES]] = groups.key_bytes[i]
        cursor[NUM_KEY_BYTES] += 1
    for i in range(groups.context_offsets[part - 1], groups.context_offsets[part]):
        groups.context_rows[cursor[NUM_CONTEXT_TOKENS]] = groups.context_rows[i]
        groups.context_weights[cursor[NUM_CONTEXT_TOKENS]] = groups.context_weights[i]
        cursor[NUM_CONTEXT_TOKENS] += 1
    for i in range(groups.context_lengths.shape[1]):
        groups.context_lengths[part, i] = groups.context_lengths[part - 1, i]
    cursor[PART] += 1
