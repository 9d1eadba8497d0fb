"""What became of a table's lines, counted: by Spark over staged lines, or by the tasks that stage them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.logs.reasons import BAD_LABEL_NAME
from esmm_spark.reading.lost_values import fractions_of
from esmm_spark.reading.named_sources import FILTERED, WITHOUT_ITEMS, WITHOUT_TIME
from esmm_spark.reading.reasons import BAD_ID, MALFORMED_LINE, NO_ID, TIME_OUT_OF_RANGE, UNPARSABLE_TIME
from esmm_spark.tables.assembling import FRACTIONS
from esmm_spark.tables.lines import AFTER_AS_OF, IMMATURE, UNKNOWN_SPLIT

SOURCE = "table"
# What becomes of a line but an impression -> the keys of `logs.table` that may be wrong.
_SETTLED_BY = {
    MALFORMED_LINE: "file_format, delimiter or column_names",
    NO_ID: "impression_id or context_key",
    BAD_ID: "impression_id or context_key",
    UNPARSABLE_TIME: "time, time_unit or time_format",
    TIME_OUT_OF_RANGE: "time_unit or earliest_time",
    UNKNOWN_SPLIT: "splits.values",
    BAD_LABEL_NAME: "labels",
    WITHOUT_ITEMS: "explode",
    FILTERED: "where",
    WITHOUT_TIME: "time",
    AFTER_AS_OF: "as_of",
    IMMATURE: "as_of or immature",
}


class Fate(NamedTuple):
    """Lines of one split, one reason and one note.

    Attributes:
        split: of the lines.
        reason: why they are rejected, or None.
        note: why they are left out, or None.
        lines: how many.
        num_bytes: of the impressions' lines, about.
    """

    split: str | None
    reason: str | None
    note: str | None
    lines: int
    num_bytes: int


class StagedCounts(NamedTuple):
    """What is known of staged lines.

    Attributes:
        fates: of all lines, perhaps several of one kind.
        fractions: of each categorical field, in their order: how many lines have a number with a fraction.
    """

    fates: Sequence[Fate]
    fractions: Sequence[int]


def count_staged(staged: DataFrame, num_fields: int) -> StagedCounts:
    """Returns the counts of staged lines, which have `num_fields` categorical fields."""
    sums = [F.coalesce(F.sum(F.col(FRACTIONS)[place]), F.lit(0)) for place in range(num_fields)]
    counted = staged.groupBy("split", "reason", "note").agg(
        F.count("*").alias("lines"),
        F.coalesce(F.sum("num_bytes"), F.lit(0)).alias("num_bytes"),
        F.array(*sums).cast("array<bigint>").alias(FRACTIONS),
    )
    fates, fractions = [], [0] * num_fields
    for found in counted.collect():
        fates.append(Fate(found.split, found.reason, found.note, found.lines, found.num_bytes))
        fractions = [before + more for before, more in zip(fractions, found[FRACTIONS], strict=True)]
    return StagedCounts(fates, fractions)


def describe_source(fates: Iterable[Fate], path: str) -> tuple[SourceCounts, dict[str, int]]:
    """Returns what became of the table's lines, and the bytes of the impressions of each split that has any.

    Lines read = accepted + rejects + notes.
    """
    rejects, notes, accepted = Counter[str](), Counter[str](), Counter[str]()
    num_bytes = Counter[str]()
    for fate in fates:
        if fate.reason is not None:
            rejects[fate.reason] += fate.lines
        elif fate.note is not None:
            notes[fate.note] += fate.lines
        elif fate.split is not None:
            accepted[fate.split] += fate.lines
            num_bytes[fate.split] += fate.num_bytes
    source = SourceCounts(
        name=SOURCE,
        path=path,
        lines_read=rejects.total() + notes.total() + accepted.total(),
        lines_accepted=accepted.total(),
        rejects=dict(sorted(rejects.items())),
        notes=dict(sorted(notes.items())),
    )
    return source, dict(sorted(num_bytes.items()))


def require_lines(source: SourceCounts) -> None:
    """Raises InputError where no line of the table becomes an impression."""
    if source.lines_accepted:
        return
    if not source.lines_read:
        raise InputError(f"{source.path} holds no lines: a table needs one at least")
    lost = {name: count for name, count in (source.rejects | source.notes).items() if name in _SETTLED_BY}
    counts = ", ".join(f"{name} {lost[name]:,}" for name in sorted(lost, key=lambda name: -lost[name]))
    keys = _SETTLED_BY[max(lost, key=lambda name: lost[name])]
    raise InputError(
        f"no line of {source.path} becomes an impression: of {source.lines_read:,} are {counts}: correct "
        f"{keys} of logs.table, or the lines; nothing was replaced"
    )


def lost_fractions(fractions: Sequence[int], fields: Iterable[FieldSpec]) -> Mapping[str, int]:
    """Returns the counts as `describe_lost` takes them, of fields that aren't said to be categorical."""
    categorical = [field for field in fields if not field.is_numbered]
    return {
        fractions_of(field): count
        for field, count in zip(categorical, fractions, strict=True)
        if field.kind is None
    }
