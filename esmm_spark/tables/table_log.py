"""A table to the canonical lines of its splits, for preprocessing and for scoring."""

import logging
from collections import Counter
from collections.abc import Sequence
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import InputError, TooManyRejectsError
from esmm_spark.contracts.fields.field_spec import FieldSpec
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
    fractions_of,
    lost_notes,
    lost_values,
    observing,
)
from esmm_spark.reading.times import check_time_format
from esmm_spark.samples.dataset import check_rejects, grouping_plan
from esmm_spark.samples.frozen import frozen_of
from esmm_spark.samples.hashing.held_out import is_held_out
from esmm_spark.spark.steps import step
from esmm_spark.tables.assembling import FRACTIONS
from esmm_spark.tables.contexts import context_line, differing_fields, flat_contexts, require_equal
from esmm_spark.tables.files import OpenTable, open_table
from esmm_spark.tables.lines import Wanted, read_lines
from esmm_spark.tables.splits import wanted_splits
from esmm_spark.tables.staging import (
    context_texts,
    is_accepted,
    placed_lines,
    staged_lines,
    texts_made_later,
)

_log = logging.getLogger(__name__)

_LINES, _CONTEXTS = "table-lines", "table-contexts"
_SOURCE = "table"
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
    lines = [
        read_lines(found, Wanted(table, config.tasks, split, as_they_stand=texts_made_later(config)))
        for split, found in zip(paths, opened, strict=True)
    ]
    frozen = frozen_of(config)
    fitted = None if frozen is None else frozen.fitted
    log = _staged(spark, config, opened, reduce(DataFrame.unionByName, lines), folder, fitted)
    for split in wanted_splits(table.splits):
        if split not in [lines_of.name for lines_of in log.splits]:
            raise InputError(
                f"no line of {', '.join(paths.values())} is of the {split} split and no reject: see "
                "logs.table.splits; nothing was replaced"
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
    lines = read_lines(opened, wanted)
    return _staged(spark, config, [opened], lines, folder, fitted)


def _table_of(config: Config) -> TableLog:
    assert config.logs.table is not None
    return config.logs.table


def _staged(
    spark: SparkSession,
    config: Config,
    opened: Sequence[OpenTable],
    lines: DataFrame,
    folder: str,
    fitted: dict[str, FittedNumber] | None,
) -> OpenLog:
    """Returns the splits; the table itself is read once, what comes after reads the staged lines.

    What places the numbers is `fitted`, or is fitted on the train split.
    """
    path = ", ".join(found.path for found in opened)
    table = _table_of(config)
    fields = [field.name for field in config.features.context_fields]
    texts = context_texts(config.features)
    scratch = [storage.join(folder, name) for name in (_LINES, _CONTEXTS)]
    # Counted by the pass that reads the table.
    every_field, carry = config.features.fields, config.samples.carry
    lines, counts_of = observing(
        lines, lost_values(lines, every_field, carry, is_accepted(), counts_fractions=False)
    )
    with step(spark, f"read {path}"):
        # Read a few times and deleted: zstd would take a seventh of the pass.
        writer = staged_lines(lines, config).write.option("compression", "snappy")
        writer.parquet(filesystems.spark_path(scratch[0]))
    staged = spark.read.parquet(filesystems.spark_source(scratch[0]))
    source, by_split, num_bytes = _count(staged, path)
    counts = counts_of() | _count_fractions(staged, every_field)
    for warning in describe_lost(counts, every_field, carry):
        _log.warning(warning)
    if marks := sum(found.byte_order_marks for found in opened):
        source.notes[BYTE_ORDER_MARKS] = marks
    source.notes |= lost_notes(counts)
    rejects = _write_rejects(staged, folder) if source.rejects else []
    _check_rejects(source, staged, config.logs.max_reject_fraction)
    accepted = staged.where(is_accepted())
    if fitted is None:
        fitted = _fit(accepted, config, by_split)
    accepted = placed_lines(accepted, config.features, fitted)
    if table.context_key is None:
        contexts = accepted.select(
            "split", "key", context_line([F.col(text) for text in texts]).alias("line")
        )
    else:
        with step(spark, "find the contexts"):
            found = flat_contexts(accepted, texts, table.on_difference == "first")
            found.write.parquet(filesystems.spark_path(scratch[1]))
        contexts = spark.read.parquet(filesystems.spark_source(scratch[1]))
        differing = differing_fields(contexts, fields)
        if table.on_difference == "error":
            require_equal(contexts, differing, fields, path)
        source.notes |= {f"{DIFFERING}{field}": keys for field, keys in differing.items()}
    splits = []
    for split in by_split:
        is_of_split = F.col("split") == split
        canonical = CanonicalLines(
            contexts.where(is_of_split).select("line", "key"),
            accepted.where(is_of_split).select("line", "key"),
            impression_bytes=num_bytes[split],
        )
        splits.append(SplitLines(split, canonical, (path, path), source))
    return OpenLog(splits, rejects, scratch, fitted)


def _fit(accepted: DataFrame, config: Config, splits: Sequence[str]) -> dict[str, FittedNumber]:
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


def _count_fractions(staged: DataFrame, fields: Sequence[FieldSpec]) -> dict[str, int]:
    """Returns how many lines have a number with a fraction, of each field that isn't said to be of a kind."""
    categorical = [field for field in fields if not field.is_numbered]
    sums = [
        F.coalesce(F.sum(F.col(FRACTIONS)[place]), F.lit(0)).alias(fractions_of(field))
        for place, field in enumerate(categorical)
        if field.kind is None
    ]
    return staged.agg(*sums).collect()[0].asDict() if sums else {}


def _count(staged: DataFrame, path: str) -> tuple[SourceCounts, list[str], dict[str, int]]:
    """Returns what became of the table's lines, the splits that have any, and the bytes of their impressions.

    Lines read = accepted + rejects + notes.
    """
    rejects, notes, accepted = Counter[str](), Counter[str](), Counter[str]()
    num_bytes: dict[str, int] = {}
    by_fate = staged.groupBy("split", "reason", "note").agg(
        F.count("*").alias("count"), F.sum("num_bytes").alias("num_bytes")
    )
    for counted in by_fate.collect():
        if counted.reason is not None:
            rejects[counted.reason] += counted["count"]
        elif counted.note is not None:
            notes[counted.note] += counted["count"]
        else:
            accepted[counted.split] += counted["count"]
            num_bytes[counted.split] = counted.num_bytes
    source = SourceCounts(
        name=_SOURCE,
        path=path,
        lines_read=rejects.total() + notes.total() + accepted.total(),
        lines_accepted=accepted.total(),
        rejects=dict(sorted(rejects.items())),
        notes=dict(sorted(notes.items())),
    )
    return source, sorted(accepted), num_bytes


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
    beside = storage.join(folder, f"{_SOURCE}-{REJECTS}")
    rejected = staged.where("reason is not null").select(
        F.col("raw").cast("binary").alias("line"), F.lit(_SOURCE).alias("source"), "reason"
    )
    rejected.coalesce(1).write.parquet(filesystems.spark_path(beside))
    storage.make_directory(storage.join(folder, REJECTS))
    files = []
    for number, (name, _) in enumerate(storage.list_files(beside, ".parquet")):
        file = f"{REJECTS}/{_SOURCE}-{number:05d}.parquet"
        storage.move(storage.join(beside, name), storage.join(folder, file))
        files.append(file)
    storage.delete(beside)
    return files
