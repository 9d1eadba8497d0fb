"""Tables whose columns need nothing but to be read: by Arrow in the tasks, past Spark's records.

A record of Spark's for each line, and one of Arrow's of that, cost several times what reading a Parquet file
and making tokens of it cost. So Parquet files of ids, flags and categorical features are read by pyarrow:
each task reads row groups of them. What needs Spark, an expression, a time, a number that is fitted, is left
to `lines`; both give the same staged lines.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, BooleanType, DataType, IntegralType, StringType, StructType

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import CountMismatchError, InputError
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.files import filesystems, storage
from esmm_spark.files.attempts import delete_others, keep_attempt
from esmm_spark.spark.tasks import Attempt, TaskReport, run_tasks
from esmm_spark.tables.assembling import CONTEXT_LINES, CONTEXT_TIME, FRACTIONS, Assembly, assembled
from esmm_spark.tables.counting import Fate, StagedCounts
from esmm_spark.tables.files import RESERVED, OpenTable
from esmm_spark.tables.lines import Wanted
from esmm_spark.tables.plain_csv import CsvRange, NotPlainError, csv_ranges, csv_size, read_csv_range
from esmm_spark.tables.plain_lines import FEATURES, PlainLines, judged
from esmm_spark.tables.row_groups import TableRowGroup, row_group_tasks
from esmm_spark.tables.staging import assembly_of, context_texts, staged_schema, texts_made_later

# Of Parquet, encoded but not compressed, that a task reads at least: it is some times that as text.
_TASK_BYTES = 8 << 20
# Lines that are assembled at once.
_LINES = 1 << 16
# Text that is read once: what makes it small costs more than it gives.
_STAGED_PARQUET: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}


class Plain(NamedTuple):
    """What is read, and how lines are made of it.

    Attributes:
        tasks: what each task reads.
        size: of all of it: lines of Parquet files, as the footers say, or bytes of CSV files.
        lines: what is read of them.
        how: what lines are made of.
    """

    tasks: Sequence[Sequence[TableRowGroup | CsvRange]]
    size: int
    lines: PlainLines
    how: Assembly


class _Staged(TaskReport):
    """The lines that a task staged.

    Attributes:
        file: the attempt's, in both folders.
        size: of what it has read, as `Plain` has it; None: a CSV file is not plain.
        fates: of all lines.
        fractions: of each batch, as `StagedCounts` has them.
    """

    file: str
    size: int | None
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
    found = _csv_tasks(table, tables) if table.file_format == "csv" else _parquet_tasks(tables)
    if found is None or not found[0]:
        return None
    lines = PlainLines(columns, config.tasks.names, table.splits, has_keys=table.context_key is not None)
    tasks, size = found
    return Plain(tasks, size, lines, assembly_of(config))


def plain_schemas(config: Config) -> tuple[StructType, StructType]:
    """Returns the schemas of the two folders of `write_plain`."""
    staged = staged_schema(config, {})
    of_contexts = [CONTEXT_LINES, CONTEXT_TIME, *context_texts(config.features)]
    lines = StructType([field for field in staged if field.name not in of_contexts])
    return lines, StructType([staged[name] for name in ("split", "key", *of_contexts)])


def write_plain(
    spark: SparkSession, plain: Plain, config: Config, folders: Sequence[str], name: str
) -> StagedCounts | None:
    """Writes the staged lines of a plain table; returns what they are, None where it is not plain after all.

    Args:
        spark: the session.
        plain: what is read.
        config: the config.
        folders: where to: the lines, and of the first of lines with one context its split, its key and that.
        name: of the step, as a person sees it.

    Raises:
        InputError: a file can't be read.
        CountMismatchError: a line got lost.
    """
    schema = to_arrow_schema(staged_schema(config, {}))
    targets = list(zip(folders, map(to_arrow_schema, plain_schemas(config)), strict=True))
    for folder in folders:
        storage.make_directory(folder)

    def stage(attempt: Attempt) -> _Staged:
        return _stage(attempt, plain, schema, targets)

    reports = run_tasks(spark, name, len(plain.tasks), stage, _Staged)
    for folder in folders:
        delete_others(folder, {keep_attempt(folder, report.file, folder) for report in reports})
    sizes = [report.size for report in reports if report.size is not None]
    if len(sizes) < len(reports):
        return None
    if sum(sizes) != plain.size:
        raise CountMismatchError(
            f"{name}: its files hold {plain.size} lines (of CSV: bytes), {sum(sizes)} were read: a defect, "
            "or a file was replaced meanwhile; nothing was replaced"
        )
    none = [0] * len(plain.how.fields)
    per_batch = [fractions for report in reports for fractions in report.fractions]
    return StagedCounts(
        [fate for report in reports for fate in report.fates], np.sum([none, *per_batch], axis=0).tolist()
    )


def _stage(
    attempt: Attempt, plain: Plain, schema: pa.Schema, targets: Sequence[tuple[str, pa.Schema]]
) -> _Staged:
    """Stages what a task reads, in the folders of `targets` and with their columns."""
    report = _Staged(task=attempt.task, file=attempt.file, size=0, fates=[], fractions=[])
    (lines_folder, of_lines), (contexts_folder, of_contexts) = targets
    with (
        _writing(storage.join(lines_folder, attempt.file), of_lines) as lines,
        _writing(storage.join(contexts_folder, attempt.file), of_contexts) as contexts,
    ):

        def take(batch: pa.RecordBatch) -> None:
            for staged in assembled([batch], plain.how, schema):
                lines.write_batch(staged.select(of_lines.names))
                has_context = staged[CONTEXT_LINES].is_valid()
                contexts.write_batch(staged.filter(has_context).select(of_contexts.names))
                report.fates.extend(_fates(staged))
                report.fractions.extend(staged[FRACTIONS].drop_null().to_pylist())

        try:
            report.size = sum(_read(piece, plain.lines, take) for piece in plain.tasks[attempt.task])
        except NotPlainError:
            report.size = None
    return report


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
    """Returns source -> column where the config asks for nothing but columns."""
    fields = config.features.fields
    needs_spark = (
        table.file_format == "json"
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


def _parquet_tasks(tables: Sequence[tuple[OpenTable, Wanted]]) -> tuple[list[list[TableRowGroup]], int]:
    return row_group_tasks(
        [(path, wanted.split) for opened, wanted in tables for files in opened.files for path in files],
        _TASK_BYTES,
    )


def _csv_tasks(
    table: TableLog, tables: Sequence[tuple[OpenTable, Wanted]]
) -> tuple[list[list[CsvRange]], int] | None:
    """Returns the ranges of CSV files, None where one is compressed, or has a column alone."""
    tasks, total = [], 0
    for opened, wanted in tables:
        for part, files in zip(opened.parts, opened.files, strict=True):
            names = tuple(name for name in part.lines.columns if name not in RESERVED)
            for path in files:
                size = csv_size(path)
                if size is None or len(names) == 1:
                    return None
                has_header = not table.column_names
                whole = CsvRange(path, 0, size, wanted.split, names, has_header, table.delimiter)
                tasks += [[span] for span in csv_ranges(whole)]
                total += size
    return tasks, total


def _read(piece: TableRowGroup | CsvRange, lines: PlainLines, take: Callable[[pa.RecordBatch], None]) -> int:
    """Hands on lines, as `assembled` takes them; returns how much was read, as `Plain.size` has it.

    Raises:
        NotPlainError: a CSV file is not plain.
        InputError: a file can't be read.
    """
    columns, size = sorted({*lines.columns.values()}), 0
    try:
        if isinstance(piece, CsvRange):
            for batch, num_bytes in read_csv_range(piece, columns):
                take(judged(batch, piece.split, lines))
                size += num_bytes
            return size
        filesystem, inner = filesystems.filesystem_of(piece.path)
        with pq.ParquetFile(inner, filesystem=filesystem) as file:
            for batch in file.iter_batches(_LINES, [piece.number], columns, use_threads=False):
                take(judged(batch, piece.split, lines))
                size += batch.num_rows
        return size
    except (OSError, pa.ArrowInvalid) as error:
        shown = " ".join(str(error).split())[:200]
        kind = "CSV" if isinstance(piece, CsvRange) else "Parquet"
        raise InputError(f"{piece.path} is no whole {kind} file: {shown}: write it again") from error
