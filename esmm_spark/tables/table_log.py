"""A table to the canonical lines of its splits, for preprocessing and for scoring."""

import logging
from collections.abc import Collection, Sequence
from functools import partial, reduce
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import InputError, TooManyRejectsError
from esmm_spark.contracts.fields.fitted import FittedNumber
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.contracts.schemas.layout import REJECTS
from esmm_spark.contracts.schemas.split_names import TRAIN, VALIDATION
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.files import filesystems, storage
from esmm_spark.logs.heads import BYTE_ORDER_MARKS
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.logs.splits import OpenLog, SplitLines
from esmm_spark.reading.fitting import fit_numbers
from esmm_spark.reading.lost_values import (
    describe_lost,
    lost_notes,
    lost_values,
    observing,
)
from esmm_spark.reading.times import check_time_format
from esmm_spark.samples.dataset import check_rejects, grouping_plan
from esmm_spark.samples.frozen import frozen_of
from esmm_spark.samples.hashing.held_out import is_held_out
from esmm_spark.spark.steps import step
from esmm_spark.tables.contexts import (
    bytes_of_contexts,
    context_counts,
    context_line,
    differing_fields,
    flat_contexts,
    require_equal,
)
from esmm_spark.tables.counting import (
    SOURCE,
    StagedCounts,
    count_staged,
    describe_source,
    lost_fractions,
    require_lines,
)
from esmm_spark.tables.files import OpenTable, open_table
from esmm_spark.tables.lines import Wanted, read_lines
from esmm_spark.tables.plain import find_plain, plain_schemas, write_plain
from esmm_spark.tables.splits import wanted_splits
from esmm_spark.tables.staging import (
    context_texts,
    is_accepted,
    placed_lines,
    staged_lines,
    staged_tasks,
    texts_made_later,
)

_log = logging.getLogger(__name__)

_LINES, _CONTEXT_LINES, _CONTEXTS = "table-lines", "table-context-lines", "table-contexts"
# Characters of a bad line in a message.
_SHOWN = 200
# The note of a feature that differs within context keys: how many keys.
DIFFERING = "differing_"


def read_table(spark: SparkSession, config: Config, folder: str) -> OpenLog:
    """Returns the splits of `logs.table`, their lines staged in `folder`, the dataset that is written.

    Raises:
        ConfigError: a source names what isn't there.
        InputError: no table, a split without lines, or features of a context that differ within it where they
            must not.
        TooManyRejectsError: more bad lines than `logs.max_reject_fraction` allows.
    """
    table = _table_of(config)
    paths: dict[str | None, str] = {TRAIN if table.splits.paths else None: table.path}
    paths |= {split: own for split, own in table.splits.paths.items()}
    check_time_format(spark, table, "logs.table")
    opened = [open_table(spark, table, path) for path in paths.values()]
    later = texts_made_later(config)
    tables = [
        (found, Wanted(table, config.tasks, split, as_they_stand=later))
        for split, found in zip(paths, opened, strict=True)
    ]
    frozen = frozen_of(config)
    fitted = None if frozen is None else frozen.fitted
    log = _staged(spark, config, tables, folder, fitted)
    for split in wanted_splits(table.splits):
        if split not in [lines_of.name for lines_of in log.splits]:
            remedy = "see logs.table.splits"
            if table.splits.column is not None:
                remedy = "name in logs.table.splits.values the splits that have lines, and their values"
            raise InputError(
                f"no line of {', '.join(paths.values())} is of the {split} split and no reject: {remedy}; "
                "nothing was replaced"
            )
    return log


def read_scored_table(
    spark: SparkSession, config: Config, folder: str, fitted: dict[str, FittedNumber]
) -> OpenLog:
    """Returns `score.table` as one split, read as `logs.table` says; labels need not be there.

    Args:
        spark: the session.
        config: the config.
        folder: where its lines are staged.
        fitted: the model's.
    """
    table = _table_of(config)
    assert config.score.table is not None
    opened = open_table(spark, table, config.score.table)
    wanted = Wanted(table, config.tasks, "raw", is_scored=True, as_they_stand=texts_made_later(config))
    return _staged(spark, config, [(opened, wanted)], folder, fitted)


def _table_of(config: Config) -> TableLog:
    assert config.logs.table is not None
    return config.logs.table


def _staged(
    spark: SparkSession,
    config: Config,
    tables: Sequence[tuple[OpenTable, Wanted]],
    folder: str,
    fitted: dict[str, FittedNumber] | None,
) -> OpenLog:
    """Returns the splits; the table itself is read once, what comes after reads the staged lines.

    What places the numbers is `fitted`, or is fitted on the train split.
    """
    path = ", ".join(opened.path for opened, _ in tables)
    table = _table_of(config)
    fields = [field.name for field in config.features.context_fields]
    texts = context_texts(config.features)
    scratch = [storage.join(folder, name) for name in (_LINES, _CONTEXT_LINES, _CONTEXTS)]
    every_field, carry = config.features.fields, config.samples.carry
    found = _stage(spark, config, tables, scratch[:2], f"read {path}")
    source, num_bytes = describe_source(found.counts.fates, path)
    lost = {**found.lost, **lost_fractions(found.counts.fractions, every_field)}
    for warning in describe_lost(lost, every_field, carry):
        _log.warning(warning)
    if marks := sum(opened.byte_order_marks for opened, _ in tables):
        source.notes[BYTE_ORDER_MARKS] = marks
    source.notes |= lost_notes(lost)
    rejects = _write_rejects(found.lines, folder) if source.rejects else []
    _check_rejects(source, found.lines, config.logs.max_reject_fraction)
    require_lines(source)
    accepted = found.lines.where(is_accepted())
    if fitted is None:
        fitted = _fit(accepted, config, num_bytes)
    accepted = placed_lines(accepted, config.features, fitted)
    of_contexts = accepted if found.of_contexts is None else found.of_contexts
    context_bytes: dict[str, int] = {}
    if table.context_key is None:
        contexts = of_contexts.select(
            "split", "key", context_line([F.col(text) for text in texts]).alias("line")
        )
    else:
        contexts = flat_contexts(of_contexts, texts, table.on_difference == "first")
        # Counted by the pass that writes them.
        contexts, counts_of = observing(contexts, context_counts(fields, num_bytes))
        with step(spark, "find the contexts"):
            contexts.write.parquet(filesystems.spark_path(scratch[2]))
        contexts = _read_back(spark, scratch[2], contexts.schema)
        counts = counts_of()
        context_bytes = {split: bytes_of_contexts(counts, split) for split in num_bytes}
        differing = differing_fields(counts)
        if table.on_difference == "error":
            require_equal(contexts, differing, fields, path)
        source.notes |= {f"{DIFFERING}{field}": keys for field, keys in differing.items()}
    splits = []
    numbered = any(field.is_numbered for field in config.features.impression_fields)
    for split in num_bytes:
        is_of_split = F.col("split") == split
        canonical = CanonicalLines(
            contexts.where(is_of_split).select("line", "key"),
            accepted.where(is_of_split).select("line", "key"),
            num_bytes=(context_bytes.get(split), num_bytes[split]),
            tasks=None if numbered else staged_tasks(scratch[0], split),
        )
        splits.append(SplitLines(split, canonical, (path, path), source))
    return OpenLog(splits, rejects, scratch, fitted)


class _StagedLines(NamedTuple):
    """The staged lines of all tables.

    Attributes:
        counts: what they are.
        lost: the counts of `lost_values`.
        lines: them.
        of_contexts: the contexts' columns of those that have them, None where `lines` has these.
    """

    counts: StagedCounts
    lost: dict[str, int]
    lines: DataFrame
    of_contexts: DataFrame | None = None


def _stage(
    spark: SparkSession,
    config: Config,
    tables: Sequence[tuple[OpenTable, Wanted]],
    folders: Sequence[str],
    name: str,
) -> _StagedLines:
    """Writes the staged lines of all tables, the contexts' columns of plain ones in the second folder."""
    plain = find_plain(config, tables)
    if plain is not None:
        counted = write_plain(spark, plain, config, folders, name)
        if counted is not None:
            lines, of_contexts = map(partial(_read_back, spark), folders, plain_schemas(config))
            return _StagedLines(counted, {}, lines, of_contexts)
        for folder in folders:
            storage.delete(folder)
    lines = reduce(DataFrame.unionByName, (read_lines(opened, wanted) for opened, wanted in tables))
    # Counted by the pass that reads the table; fractions by what makes its tokens.
    lost = lost_values(
        lines, config.features.fields, config.samples.carry, is_accepted(), counts_fractions=False
    )
    lines, counts_of = observing(lines, lost)
    staged = staged_lines(lines, config)
    with step(spark, name):
        # Read a few times and deleted: zstd would take a seventh of the pass.
        staged.write.option("compression", "snappy").parquet(filesystems.spark_path(folders[0]))
    staged = _read_back(spark, folders[0], staged.schema)
    categorical = [field for field in config.features.fields if not field.is_numbered]
    with step(spark, "count the lines"):
        counts = count_staged(staged, len(categorical))
    return _StagedLines(counts, counts_of(), staged)


def _read_back(spark: SparkSession, folder: str, schema: StructType) -> DataFrame:
    """Returns what was written with a schema; without it Spark runs a job to find it in a footer."""
    return spark.read.schema(schema).parquet(filesystems.spark_source(folder))


def _fit(accepted: DataFrame, config: Config, splits: Collection[str]) -> dict[str, FittedNumber]:
    """Returns what is fitted on the train split, without the groups of it that are held out."""
    fields = config.features.fitted_fields
    if not fields:
        return {}
    if TRAIN not in splits:
        raise InputError(
            f"features.fields {', '.join(field.name for field in fields)} are fitted on the train split, and "
            "no line is of it: see logs.table.splits, or set samples.frozen_from; nothing was replaced"
        )
    numbers = accepted.where(F.col("split") == TRAIN)
    held_out = grouping_plan(config, TRAIN, "", VALIDATION in splits).held_out
    if held_out is not None:
        numbers = numbers.where(~is_held_out(held_out))
    with step(numbers.sparkSession, "fit boundaries, means and scales"):
        return fit_numbers(numbers, fields)


def _check_rejects(source: SourceCounts, staged: DataFrame, max_reject_fraction: float) -> None:
    """Raises TooManyRejectsError with a line as an example: nothing else is kept of those that are bad."""
    try:
        check_rejects(source, max_reject_fraction)
    except TooManyRejectsError as error:
        reason = max(source.rejects, key=lambda name: source.rejects[name])
        line = staged.where(F.col("reason") == reason).agg(F.min("raw")).collect()[0][0]
        raise TooManyRejectsError(f"{error}; {reason} is e.g. {' '.join(line.split())[:_SHOWN]}") from None


def _write_rejects(staged: DataFrame, folder: str) -> list[str]:
    """Writes the rejected lines; returns their files, relative to `folder`."""
    beside = storage.join(folder, f"{SOURCE}-{REJECTS}")
    rejected = staged.where("reason is not null").select(
        F.col("raw").cast("binary").alias("line"), F.lit(SOURCE).alias("source"), "reason"
    )
    with step(staged.sparkSession, "write the rejects"):
        rejected.coalesce(1).write.parquet(filesystems.spark_path(beside))
    storage.make_directory(storage.join(folder, REJECTS))
    files = []
    for number, (name, _) in enumerate(storage.list_files(beside, ".parquet")):
        file = f"{REJECTS}/{SOURCE}-{number:05d}.parquet"
        storage.move(storage.join(beside, name), storage.join(folder, file))
        files.append(file)
    storage.delete(beside)
    return files
