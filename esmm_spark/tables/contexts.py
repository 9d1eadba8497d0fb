"""Contexts of a flat table: of all lines of a context key, the features that they share."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.schemas.line_format import TOKEN_SEPARATOR
from esmm_spark.tables.assembling import CONTEXT_LINES, CONTEXT_TIME

# Of a field: whether it differs within the key.
DIFFERS = "differs"
# Of counts: of a field, of a split.
_DIFFERING, _BYTES = "differing ", "bytes "


def flat_contexts(lines: DataFrame, texts: Sequence[str], is_first: bool) -> DataFrame:
    """Returns a context of each key of each split: `split`, `key`, `line`, and DIFFERS, [texts] booleans.

    Where lines of a key differ, it is the context of the earliest, or the one that most of them have; of
    several, the one with the smallest hash. So it is the same whatever the order of the lines.

    Args:
        lines: `split`, `key`, and of the first of lines with one context its fields' tokens, how many lines
            they are and their least time.
        texts: the columns of the latter.
        is_first: whether it is the earliest line's.
    """
    # First the distinct contexts: a key has one as a rule, so that little is shuffled.
    distinct = (
        lines.where(F.col(CONTEXT_LINES).isNotNull())
        .groupBy("split", "key", *texts)
        .agg((F.min(CONTEXT_TIME) if is_first else -F.sum(CONTEXT_LINES)).alias("place"))
    )
    hashes = [F.xxhash64(F.coalesce(text, F.lit(""))) for text in texts]
    differs = [F.min(value) != F.max(value) for value in hashes]
    order = F.struct("place", F.xxhash64(*hashes, F.lit(0)))
    chosen = F.min_by(F.struct(F.lit(0).alias("none"), *texts), order)
    contexts = distinct.groupBy("split", "key").agg(
        chosen.alias("context"), F.array(*differs).cast("array<boolean>").alias(DIFFERS)
    )
    return contexts.select(
        "split", "key", context_line([F.col(f"context.{text}") for text in texts]).alias("line"), DIFFERS
    )


def context_line(texts: Sequence[Column]) -> Column:
    """Returns the canonical line of the context `key`; `texts`: its fields' tokens, null where missing."""
    numbers = [_num_tokens(text) for text in texts]
    number = reduce(Column.__add__, numbers, F.lit(0))
    return F.concat_ws(",", "key", number.cast("string"), F.concat_ws(TOKEN_SEPARATOR, *texts))


def _num_tokens(text: Column) -> Column:
    separators = F.length(text) - F.length(F.replace(text, F.lit(TOKEN_SEPARATOR), F.lit("")))
    return F.when(text.isNull() | (text == ""), 0).otherwise(separators + 1)


def context_counts(fields: Sequence[str], splits: Iterable[str]) -> list[Column]:
    """Returns what `observing` counts of contexts: where they differ, and the bytes of each split's lines."""
    differing = [
        F.count_if(F.col(DIFFERS)[place]).alias(f"{_DIFFERING}{field}") for place, field in enumerate(fields)
    ]
    num_bytes = F.octet_length("line")
    return differing + [
        F.sum(F.when(F.col("split") == split, num_bytes)).alias(f"{_BYTES}{split}") for split in splits
    ]


def differing_fields(counts: Mapping[str, int]) -> dict[str, int]:
    """Returns field -> context keys within which it differs, of those fields that do."""
    return {
        name.removeprefix(_DIFFERING): count
        for name, count in counts.items()
        if name.startswith(_DIFFERING) and count
    }


def bytes_of_contexts(counts: Mapping[str, int], split: str) -> int:
    """Returns how many bytes the contexts' lines of a split have."""
    return counts[f"{_BYTES}{split}"] or 0


def require_equal(contexts: DataFrame, differing: dict[str, int], fields: Sequence[str], path: str) -> None:
    """Raises InputError where a field of level `context` differs within a context key."""
    if not differing:
        return
    total = contexts.count()
    name = max(differing, key=lambda field: differing[field])
    example = contexts.where(F.col(DIFFERS)[fields.index(name)]).agg(F.min("key")).collect()[0][0]
    others = [f"{field} within {count:,}" for field, count in differing.items() if field != name]
    more = f" ({', '.join(others)})" if others else ""
    raise InputError(
        f"{path}: feature {name}, of level context, differs within {differing[name]:,} of {total:,} context "
        f"keys, e.g. {example}{more}: set its level to impression in features.fields, or "
        "logs.table.on_difference to most_frequent, or first; nothing was replaced"
    )
