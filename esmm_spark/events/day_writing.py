"""Builds one day from event logs: its examples, labels and rejects, into a staging folder."""

from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.contracts.manifest import (
    VALUE_RULE,
    DayCounts,
    DayPartition,
    PartitionCounts,
    SourceCounts,
)
from esmm_spark.contracts.schemas.columns import label_columns, names_of
from esmm_spark.contracts.schemas.layout import LABELS, REJECTS
from esmm_spark.events.counts import rejects_of_day
from esmm_spark.events.day_folders import GROUPED
from esmm_spark.events.day_lines import canonical_lines
from esmm_spark.events.join.needed_folders import IsExcused
from esmm_spark.events.join.sources import DayFiles
from esmm_spark.events.labelled_day import LabelledDay, counted_features, labelled_day
from esmm_spark.events.reading.day import Day
from esmm_spark.files import filesystems, storage
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.samples.counting import account_for
from esmm_spark.samples.dataset import check_rejects
from esmm_spark.samples.examples import write_examples
from esmm_spark.samples.frozen import Frozen, frozen_of
from esmm_spark.samples.plan import GroupingPlan
from esmm_spark.spark.steps import step

_CONTEXT_LINES, _IMPRESSION_LINES = "context-lines", "impression-lines"
_LINE_SCHEMA = "key string, line string"


def write_day(
    spark: SparkSession,
    config: Config,
    day: Day,
    files: DayFiles,
    whole: tuple[DayCounts, frozenset[str]] | None,
    staging: str,
    is_excused: IsExcused,
) -> DayPartition:
    """Writes the day's folders into the staging folder.

    Args:
        spark: the session.
        config: the config.
        day: the day.
        files: those that it reads.
        whole: what it was built from before, and the logs that may hold less now; None of a new day.
        staging: see above.
        is_excused: whether a log may lack the day.
    """
    with labelled_day(spark, config, day, files, is_excused, whole) as joined:
        return _write_labelled(spark, config, day, joined, staging)


def _write_labelled(
    spark: SparkSession, config: Config, day: Day, joined: LabelledDay, staging: str
) -> DayPartition:
    labelled, sources, report = joined.labelled, joined.counted.sources, joined.report
    labels = labelled.impressions.select(*names_of(label_columns(config.tasks.names)))
    rejects = rejects_of_day(joined.logs, day).coalesce(1)
    with step(spark, f"{day.name}: write labels and rejects"):
        labels.write.parquet(filesystems.spark_path(storage.join(staging, LABELS)))
        rejects.write.parquet(filesystems.spark_path(storage.join(staging, REJECTS)))
    warnings = [*joined.warnings]
    examples, frozen = None, frozen_of(config)
    if report["impressions"]["total"] > 0:
        with step(spark, f"{day.name}: join features"):
            noticed, report["catalogs"] = _write_lines(config, joined, staging, frozen)
            warnings += noticed
        examples = _write_examples(spark, config, day, sources[0], staging, frozen)
    _account_for(sources[0], labelled.dropped, examples.impressions if examples else 0)
    return DayPartition(
        examples=examples,
        day=DayCounts(
            value_rule=VALUE_RULE,
            as_of=None if day.as_of is None else day.as_of.isoformat(),
            label_digest=labelled.digest,
            events_per_day=joined.counted.events_per_day,
            immature=labelled.immature,
            sources=sources,
            warnings=warnings,
            join=report,
        ),
    )


def _write_lines(
    config: Config, joined: LabelledDay, staging: str, frozen: Frozen | None
) -> tuple[list[str], dict[str, int]]:
    """Writes the canonical lines to files: they come from joins and are read three times.

    Returns:
        What `CountedFeatures.counts` gives.
    """
    with counted_features(config, joined) as counted:
        fitted = {} if frozen is None else frozen.fitted
        lines = canonical_lines(counted.featured, config.features, config.brought, fitted)
        lines.contexts.write.parquet(filesystems.spark_path(storage.join(staging, _CONTEXT_LINES)))
        lines.impressions.write.parquet(filesystems.spark_path(storage.join(staging, _IMPRESSION_LINES)))
        return counted.counts()


def _write_examples(
    spark: SparkSession,
    config: Config,
    day: Day,
    source: SourceCounts,
    staging: str,
    frozen: Frozen | None,
) -> PartitionCounts | None:
    """Writes the examples into the folder `grouped`; adds to `source` what the grouping kernel rejects."""
    paths = [storage.join(staging, name) for name in (_CONTEXT_LINES, _IMPRESSION_LINES)]
    plan = GroupingPlan(
        spec=config.features,
        brought=config.brought,
        dataset=storage.join(staging, GROUPED),
        partition=day.name,
        source=day.name,
        samples=config.samples,
        vocabulary=None if frozen is None else frozen.vocabulary,
    )
    reader = spark.read.schema(_LINE_SCHEMA)
    contexts, impressions = (reader.parquet(filesystems.spark_source(path)) for path in paths)
    lines = CanonicalLines(contexts, impressions)
    written = write_examples(spark, lines, (paths[0], source.path), plan, config.samples.num_files)
    account_for(source, written.sources)
    check_rejects(source, config.logs.max_reject_fraction)
    return written.partitions.get(day.name)


def _account_for(source: SourceCounts, dropped: int, written: int) -> None:
    """Notes the dropped impressions; raises CountMismatchError unless all others are in the examples."""
    source.lines_accepted -= dropped
    if dropped:
        source.notes["immature_dropped"] = dropped
    if source.lines_accepted != written:
        raise CountMismatchError(
            f"{source.name}: {source.lines_accepted} impressions accepted, but {written} in the examples: "
            "a defect, nothing was replaced"
        )
