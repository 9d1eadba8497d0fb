"""What became of a table's lines, counted: by Spark over staged lines, or by the tasks that stage them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.reading.lost_values import fractions_of
from esmm_spark.tables.assembling import FRACTIONS

SOURCE = "table"


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


def lost_fractions(fractions: Sequence[int], fields: Iterable[FieldSpec]) -> Mapping[str, int]:
    """Returns the counts as `describe_lost` takes them, of fields that aren't said to be categorical."""
    categorical = [field for field in fields if not field.is_numbered]
    return {
        fractions_of(field): count
        for field, count in zip(categorical, fractions, strict=True)
        if field.kind is None
    }
