"""The columns of every table that one room writes and another reads.

Types have Spark's names, as in the documentation. Neither Spark nor pyarrow is imported here: `--help` would
wait for them. `spark/schemas.py` and `files/schemas.py` make their schemas of these.

A single column's name in an expression (`F.col("click")`) refers to these tables; what must not stand twice
is which columns a table has, in which order and of which types. tests/contracts/test_schemas.py looks for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: its name.
        type: as Spark calls it: `string`, `tinyint`, `array<float>`.
        has_nulls: whether nulls may stand in it, or in its lists. Without, Parquet need not say of each value
            that it is there, which makes reading an epoch a fifth faster.
    """

    name: str
    type: str
    has_nulls: bool = True


# Labels are 0 or 1, null where unknown; a conversion has a click.
DEFAULT_LABELS = ("click", "conversion")
# P(click | impression), P(conversion | click), P(click and conversion | impression).
PROBABILITIES = ("pctr", "pcvr", "pctcvr")


_CARRIED_TYPES = {"float": "double", "int": "bigint", "string": "string"}


def example_columns(row_type: str, tasks: Iterable[str], carry: Mapping[str, str]) -> tuple[Column, ...]:
    """Returns the columns of the examples, a record per impression group.

    n impressions, T tokens; arena rows are `int`, or `bigint` once the arena has 2^31 rows or more:

        group_key           string          what the group shares
        group_hash          bigint          xxhash64 of key and part number
        impression_id       array<string>   [n]
        one of each task    array<tinyint>  [n], 0 or 1, 1 only where its parent's is; null where unknown
        one of each carried array           [n], double, bigint or string; null where missing
        context_rows        array<int>      [T_context], arena rows, field by field
        context_weights     array<float>    [T_context]
        context_lengths     array<int>      [context fields], tokens of each field
        impression_rows     array<int>      [T_impressions], impression by impression, field by field
        impression_weights  array<float>    [T_impressions]
        impression_lengths  array<int>      [n * impression fields]

    Args:
        row_type: `FeatureSpec.row_type`.
        tasks: the names of the labels.
        carry: carried column -> its type, `float`, `int` or `string`.
    """
    tokens = (
        Column(f"{level}_{name}", kind, has_nulls=False)
        for level in ("context", "impression")
        for name, kind in (
            ("rows", f"array<{row_type}>"),
            ("weights", "array<float>"),
            ("lengths", "array<int>"),
        )
    )
    return (
        Column("group_key", "string"),
        Column("group_hash", "bigint"),
        Column("impression_id", "array<string>"),
        *(Column(task, "array<tinyint>") for task in tasks),
        *(Column(name, f"array<{_CARRIED_TYPES[kind]}>") for name, kind in carry.items()),
        *tokens,
    )


EXAMPLE_COLUMNS = tuple(column.name for column in example_columns("int", DEFAULT_LABELS, {}))


def view_columns(tasks: Iterable[str], carry: Mapping[str, str]) -> tuple[Column, ...]:
    """Returns the columns of the examples as people see them, a record per impression; the fields follow.

    Args are those of `example_columns`.
    """
    return (Column("impression_id", "string"), Column("group_key", "string"), *_beside(tasks, carry))


# A record per rejected line of a raw file.
REJECT_COLUMNS = (Column("line", "binary"), Column("source", "string"), Column("reason", "string"))


def label_columns(tasks: Sequence[str]) -> tuple[Column, ...]:
    """Returns the columns of the labels table.

    A record per impression of event logs. Times in microseconds since 1970, of the first event of a task; the
    numbers count all of them. `mature` is null unless logs.events.immature is flag.
    """
    return (
        Column("impression_id", "string"),
        Column("time_us", "bigint"),
        *(Column(task, "tinyint") for task in tasks),
        *(Column(f"num_{task}s", "bigint") for task in tasks),
        *(Column(f"{task}_time_us", "bigint") for task in tasks),
        Column("mature", "boolean"),
    )


def score_columns(
    probabilities: Iterable[str], tasks: Iterable[str], carry: Mapping[str, str]
) -> tuple[Column, ...]:
    """Returns the columns of the scores, a record per scored impression. Key: impression_id.

        impression_id          string
        group_key              string
        probabilities          float     of each task: P(task | parent), P(task | impression)
        model_version          string
        one of each task       tinyint   the labels of the examples, null where unknown
        one of each carried    double, bigint or string, as in the examples; null where missing

    Args:
        probabilities: `Tasks.all_score_columns`: of the default tasks PROBABILITIES.
        tasks: the names of the labels.
        carry: carried column -> its type, `float`, `int` or `string`.
    """
    return (
        Column("impression_id", "string"),
        Column("group_key", "string"),
        *(Column(probability, "float") for probability in probabilities),
        Column("model_version", "string"),
        *_beside(tasks, carry),
    )


def _beside(tasks: Iterable[str], carry: Mapping[str, str]) -> tuple[Column, ...]:
    """Returns labels and carried columns of each impression."""
    return (
        *(Column(task, "tinyint") for task in tasks),
        *(Column(name, _CARRIED_TYPES[kind]) for name, kind in carry.items()),
    )


SCORE_COLUMNS = score_columns(PROBABILITIES, DEFAULT_LABELS, {})

# A record per simulated impression, of all splits: what its labels were drawn from. Key: impression_id.
TRUTH_COLUMNS = (
    Column("impression_id", "string"),
    *(Column(probability, "double") for probability in PROBABILITIES[:2]),
    Column("conversion_if_clicked", "tinyint"),
)


def names_of(columns: Iterable[Column]) -> list[str]:
    """Returns the columns' names, in their order."""
    return [column.name for column in columns]


def ddl_of(columns: Iterable[Column]) -> str:
    """Returns the columns as SQL declares them: `impression_id string, click tinyint`."""
    return ", ".join(f"{column.name} {column.type}" for column in columns)
