"""Tables whose columns need nothing but to be read: by Arrow in the tasks, past Spark's records.

A record of Spark's for each line, and one of Arrow's of that, cost several times what reading a Parquet file
and making tokens of it cost. So Parquet files of ids, flags and categorical features are read by pyarrow:
each task reads row groups of them. What needs Spark, an expression, a time, a number that is fitted, is left
to `lines`; both give the same staged lines.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, BooleanType, DataType, IntegralType, StringType

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import CountMismatchError, InputError
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.files import filesystems, storage
from esmm_spark.files.attempts import keep_attempt
from esmm_spark.spark.tasks import Attempt, TaskReport, run_tasks
from esmm_spark.tables.assembling import CONTEXT_LINES, CONTEXT_TIME, FRACTIONS, Assembly, assembled
from esmm_spark.tables.counting import Fate, StagedCounts
from esmm_spark.tables.files import OpenTable
from esmm_spark.tables.lines import Wanted
from esmm_spark.tables.plain_lines import FEATURES, PlainLines, judged
from esmm_spark.tables.row_groups import TableRowGroup, row_group_tasks
from esmm_spark.tables.staging import assembly_of, context_texts, staged_schema, texts_made_later

# Lines that are assembled at once.
_LINES = 1 << 16
# Text that is read once: what makes it small costs more than it gives.
_STAGED_PARQUET: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}


class Plain(NamedTuple):
    """What is read, and how lines are made of it.

    Attributes:
        tasks: the row groups of each task.
        num_lines: of all of them, as the footers say.
        lines: what is read of them.
        how: what lines are made of.
    """

    tasks: list[list[TableRowGroup]]
    num_lines: int
    lines: PlainLines
    how: Assembly


class _Staged(TaskReport):
    """The lines that a task staged.

    Attributes:
        file: the attempt's, in both folders.
        fates: of all lines.
        fractions: of each batch, as `StagedCounts` has them.
    """

    file: str
    fates: list[Fate]
    fractions: list[list[int]]


def find_plain(config: Config, tables: Sequence[tuple[OpenTable, Wanted]]) -> Plain | None:
    """Returns what `write_plain` reads, None where a table needs Spark.

    Args:
        config: the config.
        tables: files of one layout each, and what is read of them.

    Raises:
        InputError: a file can't be read.
    """
    table = config.logs.table
    assert table is not None
    is_scored = any(wanted.is_scored for _, wanted in tables)
    columns = _plain_columns(table, config)
    if columns is None:
        return None
    missing: set[str] = set()
    for opened, _ in tables:
        for part in opened.parts:
            types = {field.name: field.dataType for field in part.lines.schema}
            for key, column in columns.items():
                if column not in types and is_scored and key.startswith(("labels.", "splits.")):
                    missing.add(key)
                elif column not in types or not _is_plain(types[column], key):
                    return None
    columns = {key: column for key, column in columns.items() if key not in missing}
    files = [(path, wanted.split) for opened, wanted in tables for path in opened.files]
    tasks, num_lines = row_group_tasks(files)
    if not tasks:
        return None
    lines = PlainLines(columns, config.tasks.names, table.splits, has_keys=table.context_key is not None)
    return Plain(tasks, num_lines, lines, assembly_of(config))


def write_plain(
    spark: SparkSession, plain: Plain, config: Config, folders: Sequence[str], name: str
) -> StagedCounts:
    """Writes the staged lines of a plain table; returns what they are.

    Args:
        spark: the session.
        plain: what is read.
        config: the config.
        folders: where to: the lines as `staging.staged_schema` has them, without what stands in the other;
            of the first of lines with one context its split, its key and that.
        name: of the step, as a person sees it.

    Raises:
        InputError: a file can't be read.
        CountMismatchError: a line got lost.
    """
    schema = to_arrow_schema(staged_schema(config, {}))
    of_contexts = [CONTEXT_LINES, CONTEXT_TIME, *context_texts(config.features)]
    columns = (
        [name for name in schema.names if name not in of_contexts],
        ["split", "key", *of_contexts],
    )
    for folder in folders:
        storage.make_directory(folder)

    def stage(attempt: Attempt) -> _Staged:
        report = _Staged(task=attempt.task, file=attempt.file, fates=[], fractions=[])
        batches = (batch for group in plain.tasks[attempt.task] for batch in _read(group, plain.lines))
        paths = [storage.join(folder, attempt.file) for folder in folders]
        schemas = [pa.schema([schema.field(name) for name in names]) for names in columns]
        with _writing(paths[0], schemas[0]) as lines, _writing(paths[1], schemas[1]) as contexts:
            for staged in assembled(batches, plain.how, schema):
                lines.write_batch(staged.select(columns[0]))
                contexts.write_batch(staged.filter(staged[CONTEXT_LINES].is_valid()).select(columns[1]))
                report.fates += _fates(staged)
                report.fractions += staged[FRACTIONS].drop_null().to_pylist()
        return report

    reports = run_tasks(spark, name, len(plain.tasks), stage, _Staged)
    for folder in folders:
        kept = {keep_attempt(folder, report.file, folder) for report in reports}
        for file, _ in storage.list_files(folder):
            if file not in kept:
                storage.delete(storage.join(folder, file))
    fates = [fate for report in reports for fate in report.fates]
    lines = sum(fate.lines for fate in fates)
    if lines != plain.num_lines:
        raise CountMismatchError(
            f"{name}: its files hold {plain.num_lines} lines, {lines} were read: a defect, or a file was "
            "replaced meanwhile; nothing was replaced"
        )
    none = [0] * len(plain.how.fields)
    per_batch = [fractions for report in reports for fractions in report.fractions]
    return StagedCounts(fates, np.sum([none, *per_batch], axis=0).tolist())


@contextmanager
def _writing(path: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    filesystem, inner = filesystems.filesystem_of(path)
    with pq.ParquetWriter(inner, schema, filesystem=filesystem, **_STAGED_PARQUET) as writer:
        yield writer


def _fates(staged: pa.RecordBatch) -> list[Fate]:
    names = ["split", "reason", "note"]
    table = pa.Table.from_batches([staged.select([*names, "num_bytes"])])
    counted = table.group_by(names).aggregate([([], "count_all"), ("num_bytes", "sum")])
    return [
        Fate(line["split"], line["reason"], line["note"], line["count_all"], line["num_bytes_sum"] or 0)
        for line in counted.to_pylist()
    ]


def _plain_columns(table: TableLog, config: Config) -> dict[str, str] | None:
    """Returns source -> column where the config asks for nothing but columns of Parquet files."""
    fields = config.features.fields
    needs_spark = (
        table.file_format != "parquet"
        or table.impression_id is None
        or table.time is not None
        or table.splits.is_by_day
        or bool(config.samples.carry)
        or any(text is not None for text in (table.explode, table.where, table.day_folders, table.as_of))
        or any(label.time is not None for label in table.labels.values())
        or not texts_made_later(config).issuperset(field.name for field in fields)
    )
    columns = {key: source.column for key, source in table.sources.items()}
    # A name with a point in it may be a path.
    found = {key: column for key, column in columns.items() if column is not None and "." not in column}
    return None if needs_spark or len(found) < len(columns) else found


def _is_plain(kind: DataType, key: str) -> bool:
    """Returns whether Arrow makes the same text of a type as Spark."""
    if isinstance(kind, ArrayType) and key.startswith(FEATURES):
        kind = kind.elementType
    return isinstance(kind, StringType | IntegralType | BooleanType)


def _read(group: TableRowGroup, plain: PlainLines) -> Iterator[pa.RecordBatch]:
    """Yields a row group's lines, as `assembled` takes them."""
    filesystem, inner = filesystems.filesystem_of(group.path)
    try:
        with pq.ParquetFile(inner, filesystem=filesystem) as file:
            for batch in file.iter_batches(
                _LINES, [group.number], sorted({*plain.columns.values()}), use_threads=False
            ):
                yield judged(batch, group.split, plain)
    except (OSError, pa.ArrowInvalid) as error:
        shown = " ".join(str(error).split())[:200]
        raise InputError(f"{group.path} is no whole Parquet file: {shown}: write it again") from error
