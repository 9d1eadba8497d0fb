"""Lines of a table to the texts that canonical lines are made of, in Arrow: a batch at a time, in the tasks.

Spark reads the table and says what becomes of each line. What it would do value by value in expressions,
several for each of a line's fields, is done here column by column: values as canonical text
(`reading/values.py` has the rule), tokens (`reading/attributes.py`), a context for each run of lines that
have the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esmm_spark.contracts.schemas.line_format import TOKEN_SEPARATOR, VALUE_SEPARATOR, WEIGHT_SEPARATOR
from esmm_spark.logs.lines import IMPRESSION
from esmm_spark.reading.values import WHOLE_NUMBER
from esmm_spark.runtime.arrays import Bools, Int64s
from esmm_spark.runtime.texts import text_memory

_BYTES = pa.binary()
_COMMA, _SEPARATOR = b",", TOKEN_SEPARATOR.encode()
_UNWEIGHTED = f"{WEIGHT_SEPARATOR}1.0".encode()
_LATEST = np.iinfo(np.int64).max
# What Spark reads as a number, of text that has a point.
_FRACTION = r"^\s*[+-]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"

# Of the staged lines: how many lines have this line's context, from it on, and the least time of them.
CONTEXT_LINES, CONTEXT_TIME = "context_lines", "context_time_us"
# Of a batch: how many lines have a number with a fraction, a number for each of `Assembly.fields`.
FRACTIONS = "fractions"


class TokenField(NamedTuple):
    """A categorical field of the lines.

    Attributes:
        name: the field's.
        column: of its values: texts, lists of texts, or tokens that are made.
        is_made: whether they are tokens.
        context: the column of the context's tokens; None: it is the impression's.
    """

    name: str
    column: str
    is_made: bool
    context: str | None


class Assembly(NamedTuple):
    """What lines are made of.

    Attributes:
        head: the columns of an impression's line up to its tokens.
        fields: in the order of the tokens.
        kept: the columns that are handed on as they are.
        contexts: those of them that are of the context.
        has_runs: whether lines of one context have it once.
    """

    head: tuple[str, ...]
    fields: tuple[TokenField, ...]
    kept: tuple[str, ...]
    contexts: tuple[str, ...]
    has_runs: bool


def assembled(
    batches: Iterable[pa.RecordBatch], how: Assembly, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yields the staged lines: those that are accepted, then the others, of each batch.

    Args:
        batches: `split`, `context_key`, `time_us`, `reason`, `note`, `raw`, and the columns that `how` names.
        how: what lines are made of.
        schema: of the staged lines, see `staging.staged_lines`.
    """
    for batch in batches:
        if batch["reason"].null_count == batch["note"].null_count == batch.num_rows > 0:
            yield _as_staged(_lines(batch, how), batch, schema)
            continue
        is_accepted = pc.and_(pc.is_null(batch["reason"]), pc.is_null(batch["note"]))
        accepted = batch.filter(is_accepted)
        if accepted.num_rows:
            yield _as_staged(_lines(accepted, how), accepted, schema)
        if accepted.num_rows < batch.num_rows:
            yield _as_staged({}, batch.filter(pc.invert(is_accepted)), schema)


def _as_staged(made: dict[str, pa.Array], batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Returns what was made, and what every line has, as the staged lines have it."""
    always = ("split", "time_us", "reason", "note", "raw")
    columns = []
    for field in schema:
        if field.name in made:
            columns.append(_typed(made[field.name], field.type))
        elif field.name in always:
            columns.append(batch[field.name])
        else:
            columns.append(pa.nulls(batch.num_rows, field.type))
    return pa.record_batch(columns, schema=schema)


def _typed(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Returns the array; bytes as text, which nobody checks: the grouping does, line by line."""
    if pa.types.is_binary(array.type) and pa.types.is_string(kind):
        return pa.Array.from_buffers(kind, len(array), array.buffers(), array.null_count, array.offset)
    return array.cast(kind)


def _lines(batch: pa.RecordBatch, how: Assembly) -> dict[str, pa.Array]:
    """Returns the columns of accepted lines."""
    impressions: list[pa.Array] = []
    fractions: list[int] = []
    number: pa.Array = pa.array(np.zeros(batch.num_rows, dtype=np.int32))
    starts = _run_starts(batch, how)
    made: dict[str, pa.Array] = {}
    for field in how.fields:
        values = batch[field.column]
        if field.context is None:
            found, counts, num_fractions = _tokens(values, field)
            impressions.append(found)
            number = pc.add(number, counts)
        else:
            found, _, num_fractions = _tokens(values.take(starts), field)
            made[field.context] = _placed(found, starts, batch.num_rows)
            if num_fractions:
                # Of the first lines of runs: the others of a run have the same values.
                num_fractions = _tokens(values, field)[2]
        fractions.append(num_fractions)
    tokens = _joined(impressions, _SEPARATOR, batch.num_rows)
    head = _joined([batch[name].cast(_BYTES) for name in how.head], _COMMA, batch.num_rows)
    return {
        **made,
        **{name: batch[name] for name in how.kept},
        **_runs(batch, starts),
        "key": batch["context_key"],
        "head": head,
        "num_tokens": number,
        "tokens": tokens,
        "num_bytes": pc.add(pc.binary_length(head), pc.binary_length(tokens)),
        FRACTIONS: pa.array([fractions, *[None] * (batch.num_rows - 1)], pa.list_(pa.int64())),
    }


def joined_lines(staged: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the impressions' lines of staged lines: columns `kind` and `line`."""
    texts = [staged["head"], staged["num_tokens"].cast(pa.string()), staged["tokens"]]
    line = _joined([text.cast(_BYTES) for text in texts], _COMMA, staged.num_rows)
    kind = pa.array(np.full(staged.num_rows, IMPRESSION, dtype=np.int8))
    return pa.record_batch([kind, line], names=["kind", "line"])


def _joined(texts: Sequence[pa.Array], separator: bytes, num_lines: int) -> pa.Array:
    """Returns the texts of each line put together, without those that are null; empty where all are."""
    if not texts:
        return pa.array([b""] * num_lines, _BYTES)
    found = pc.binary_join_element_wise(*texts, separator, null_handling="skip")
    if len(found) == num_lines:
        return found
    # Arrow 14 leaves out the lines of which all texts are null.
    is_there = reduce(pc.or_, (text.is_valid() for text in texts))
    places = np.flatnonzero(is_there.to_numpy(zero_copy_only=False))
    return pc.fill_null(_placed(found, places, num_lines), b"")


def _tokens(values: pa.Array, field: TokenField) -> tuple[pa.Array, pa.Array, int]:
    """Returns a field's tokens, null where it has none, their number, and how many lines have fractions."""
    if field.is_made:
        tokens = values.cast(_BYTES)
        separators = pc.count_substring(tokens, TOKEN_SEPARATOR)
        return tokens, pc.fill_null(pc.add(separators, 1), 0).cast(pa.int32()), 0
    prefix = f"{field.name}{VALUE_SEPARATOR}".encode()
    if not pa.types.is_list(values.type):
        texts, is_fraction = canonical_texts(values)
        tokens = pc.binary_join_element_wise(prefix, texts, _UNWEIGHTED, b"")
        return tokens, texts.is_valid().cast(pa.int32()), int(is_fraction.sum())
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy().astype(np.int64)
    texts, is_fraction = canonical_texts(values.flatten())
    is_there = texts.is_valid().to_numpy(zero_copy_only=False)
    # What lies before each item, of values that are there, and of those that are fractions.
    before, fractions = (np.concatenate([[0], np.cumsum(mask)]) for mask in (is_there, is_fraction))
    ends = np.cumsum(lengths)
    offsets = np.concatenate([[0], before[ends]])
    items = pc.binary_join_element_wise(prefix, texts.drop_null(), _UNWEIGHTED, b"")
    tokens = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items), _SEPARATOR)
    counts = np.diff(offsets)
    tokens = pc.if_else(pa.array(counts > 0), tokens, pa.scalar(None, _BYTES))
    num_fractions = int((fractions[ends] > fractions[ends - lengths]).sum())
    return tokens, pa.array(counts, pa.int32()), num_fractions


def canonical_texts(values: pa.Array) -> tuple[pa.Array, Bools]:
    """Returns texts as canonical text, bytes, null where they are missing, and which have a fraction."""
    texts, is_fraction = values.cast(_BYTES), np.zeros(len(values), dtype=np.bool_)
    content, offsets = text_memory(texts)
    if not np.all(np.diff(offsets)):
        texts = pc.if_else(pc.equal(pc.binary_length(texts), 0), pa.scalar(None, _BYTES), texts)
    if not np.any(content == ord(".")):
        return texts, is_fraction
    has_point = pc.fill_null(pc.match_substring(texts, "."), False)
    pointed = pc.replace_substring_regex(texts.filter(has_point), WHOLE_NUMBER, r"\1")
    texts = pc.replace_with_mask(texts, has_point, pointed)
    places = np.flatnonzero(has_point.to_numpy(zero_copy_only=False))
    is_fraction[places] = pc.match_substring_regex(pointed, _FRACTION).to_numpy(zero_copy_only=False)
    return texts, is_fraction


def _run_starts(batch: pa.RecordBatch, how: Assembly) -> Int64s:
    """Returns where each run of lines begins that have one key, one split and one context."""
    if not how.has_runs:
        return np.arange(batch.num_rows)
    is_start = np.zeros(batch.num_rows, dtype=np.bool_)
    is_start[0] = True
    columns = [field.column for field in how.fields if field.context is not None]
    for name in ("split", "context_key", *columns, *how.contexts):
        is_start[1:] |= ~_is_as_before(batch[name])
    return np.flatnonzero(is_start)


def _is_as_before(values: pa.Array) -> Bools:
    """Returns bool [lines - 1], whether each line but the first has the value of the line before it."""
    if pa.types.is_list(values.type):
        values = pc.binary_join(values.cast(pa.list_(pa.string())), TOKEN_SEPARATOR)
    before, after = values[:-1], values[1:]
    both_missing = pc.and_(before.is_null(), after.is_null())
    is_as_before = pc.or_(pc.fill_null(pc.equal(before, after), False), both_missing)
    return np.asarray(is_as_before.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _runs(batch: pa.RecordBatch, starts: Int64s) -> dict[str, pa.Array]:
    """Returns CONTEXT_LINES and CONTEXT_TIME, null but where a run begins."""
    times = batch["time_us"]
    known = np.minimum.reduceat(pc.fill_null(times, _LATEST).to_numpy(), starts)
    lengths = np.diff(np.append(starts, batch.num_rows))
    least = pa.array(known, mask=known == _LATEST)
    return {
        CONTEXT_LINES: _placed(pa.array(lengths), starts, batch.num_rows),
        CONTEXT_TIME: _placed(least, starts, batch.num_rows),
    }


def _placed(values: pa.Array, places: Int64s, num_lines: int) -> pa.Array:
    """Returns the values at their places among lines that have none."""
    indices = np.zeros(num_lines, dtype=np.int64)
    is_none = np.ones(num_lines, dtype=np.bool_)
    indices[places], is_none[places] = np.arange(len(places)), False
    return values.take(pa.array(indices, mask=is_none))
