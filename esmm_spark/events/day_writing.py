"""Builds one day from event logs: its examples, labels and rejects, into a staging folder."""

from contextlib import suppress

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

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
from esmm_spark.events.counts import Counted, count_lines, rejects_of_day
from esmm_spark.events.day_folders import GROUPED
from esmm_spark.events.day_lines import canonical_lines
from esmm_spark.events.features.features import FOUND, add_features
from esmm_spark.events.join.labels import Labelled, label_day
from esmm_spark.events.join.needed_folders import IsExcused
from esmm_spark.events.join.sources import DayFiles, DayLogs, read_day_logs
from esmm_spark.events.join_report import report_join
from esmm_spark.events.line_checks import check_lines
from esmm_spark.events.matching import check_matches, unused_catalogs
from esmm_spark.events.reading.day import Day
from esmm_spark.events.whole_logs import require_whole
from esmm_spark.files import filesystems, storage
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.reading.lost_values import describe_lost, lost_values, observing
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
    funnel = config.funnel
    logs = read_day_logs(spark, funnel, day, files, with_features=True)
    with step(spark, f"{day.name}: attribute events"):
        labelled = label_day(funnel, logs, day)
    try:
        with step(spark, f"{day.name}: count lines"):
            counted = count_lines(logs, funnel, day)
        if whole is not None:
            built, may_hold_less = whole
            require_whole(built, counted.events_per_day, day, may_hold_less, funnel.arriving)
        check_lines(
            counted.sources,
            logs.raw,
            funnel.logs,
            day,
            config.logs.max_reject_fraction,
            is_excused,
        )
        return _write_labelled(spark, config, day, logs, labelled, counted, staging)
    finally:
        # After Ctrl-C Spark may be gone.
        with suppress(Py4JError):
            labelled.unpersist()
            logs.unpersist()


def _write_labelled(
    spark: SparkSession,
    config: Config,
    day: Day,
    logs: DayLogs,
    labelled: Labelled,
    counted: Counted,
    staging: str,
) -> DayPartition:
    sources, funnel = counted.sources, config.funnel
    labels = labelled.impressions.select(*names_of(label_columns(config.tasks.names)))
    labels.write.parquet(filesystems.spark_path(storage.join(staging, LABELS)))
    rejects_of_day(logs, day).coalesce(1).write.parquet(
        filesystems.spark_path(storage.join(staging, REJECTS))
    )
    with step(spark, f"{day.name}: report the join"):
        report = report_join(labelled, funnel, day)
    warnings = [*logs.warnings, *check_matches(report, labelled, funnel, day)]
    examples, frozen = None, frozen_of(config)
    if report["impressions"]["total"] > 0:
        with step(spark, f"{day.name}: join features"):
            noticed, report["catalogs"] = _write_lines(config, logs, labelled, staging, frozen)
            warnings += noticed
        examples = _write_examples(spark, config, day, sources[0], staging, frozen)
    _account_for(sources[0], labelled.dropped, examples.impressions if examples else 0)
    return DayPartition(
        examples=examples,
        day=DayCounts(
            value_rule=VALUE_RULE,
            as_of=None if day.as_of is None else day.as_of.isoformat(),
            label_digest=labelled.digest,
            events_per_day=counted.events_per_day,
            immature=labelled.immature,
            sources=sources,
            warnings=warnings,
            join=report,
        ),
    )


def _write_lines(
    config: Config, logs: DayLogs, labelled: Labelled, staging: str, frozen: Frozen | None
) -> tuple[list[str], dict[str, int]]:
    """Writes the canonical lines to files: they come from joins and are read three times.

    Returns:
        Warnings, and number of a catalog -> impressions of which it has an entry.
    """
    funnel, catalogs = config.funnel, logs.accepted_catalogs()
    counted = {link.log_name: logs.accepted(link.log_name) for link in funnel.links}
    featured = add_features(labelled.impressions, catalogs, counted, funnel.events, config.features)
    contexts, impressions = featured.contexts.persist(), featured.impressions
    spec, carry = config.features, config.samples.carry
    # Counted by the passes that write the lines.
    every = F.lit(True)
    lost_of_contexts = lost_values(contexts, spec.context_fields, {}, every)
    lost_of_impressions = lost_values(impressions, spec.impression_fields, carry, every)
    counted_contexts, counts_of_contexts = observing(contexts, lost_of_contexts)
    places = [f"{FOUND}{number}" for number in range(len(catalogs))]
    found = [F.count_if(place).alias(place) for place in places]
    counted_impressions, counts_of_impressions = observing(impressions, [*lost_of_impressions, *found])
    featured = featured._replace(contexts=counted_contexts, impressions=counted_impressions)
    lines = canonical_lines(featured, spec, config.brought, {} if frozen is None else frozen.fitted)
    lines.contexts.write.parquet(filesystems.spark_path(storage.join(staging, _CONTEXT_LINES)))
    lines.impressions.write.parquet(filesystems.spark_path(storage.join(staging, _IMPRESSION_LINES)))
    warnings = unused_catalogs(contexts, labelled.impressions, catalogs)
    contexts.unpersist()
    lost = counts_of_contexts() | counts_of_impressions()
    of_catalogs = {str(number): lost.pop(place) for number, place in enumerate(places)}
    return warnings + describe_lost(lost, spec.fields, carry), of_catalogs


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
