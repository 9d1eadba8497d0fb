"""Event logs to day partitions of a dataset: each built, and replaced, for itself.

A day's partition follows from the logs, the config and `--as-of` alone: not from when it is made, nor from
what else is in the dataset. So a run may be repeated, and days may come in any order.
"""

from contextlib import suppress

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from esmm_spark import storage
from esmm_spark.config import Config
from esmm_spark.errors import ConfigError, CountMismatchError
from esmm_spark.event_config import EventLogs
from esmm_spark.failures import user_errors
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.manifest import (
    LABEL_COLUMNS,
    LABELS,
    REJECTS,
    DayCounts,
    DayPartition,
    PartitionCounts,
    SourceCounts,
    list_days,
    read_day,
    read_manifest,
    require_same_spec,
)
from esmm_spark.samples.dataset import check_rejects
from esmm_spark.samples.day import Day
from esmm_spark.samples.day_folders import (
    GROUPED,
    REJECTED_CONTEXTS,
    dataset_lease,
    day_staging,
    publish_day,
    write_day_manifest,
)
from esmm_spark.samples.day_labels import Labelled, label_day
from esmm_spark.samples.event_counts import count_lines, rejected_lines
from esmm_spark.samples.event_features import add_features
from esmm_spark.samples.event_lines import canonical_lines
from esmm_spark.samples.event_sources import (
    CLICKS,
    CONVERSIONS,
    IMPRESSIONS,
    DayLogs,
    read_day_logs,
)
from esmm_spark.samples.examples import write_examples
from esmm_spark.samples.join_report import report_join
from esmm_spark.samples.matching import check_matches
from esmm_spark.samples.plan import GroupingPlan
from esmm_spark.steps import step

_CONTEXT_LINES, _IMPRESSION_LINES = "context-lines", "impression-lines"
_LINE_SCHEMA = "key string, line string"
# What makes two days' examples comparable, beside the feature spec.
_JOIN_KEYS = {"attribution", "immature", "history", "crosses"}


def build_days(spark: SparkSession, config: Config, day: Day, backfill: bool) -> list[str]:
    """Builds the partition of a day, and with `backfill` every earlier one whose labels have changed.

    Returns:
        The partitions that were written, `day` first.

    Raises:
        ConfigError: the dataset was made by another join, or from other logs than events.
        SpecMismatchError: the dataset has another feature spec.
        TargetBusyError: another run builds the day, or replaces the dataset.
        InputError, TooManyRejectsError, CountMismatchError: as in all preprocessing; the day stays as it was.
    """
    with user_errors(spark, "mend the logs", f"paths.dataset {config.paths.dataset}"):
        build_day(spark, config, day)
        written = [day.name]
        for name in changed_days(spark, config, day) if backfill else []:
            build_day(spark, config, day.on(name))
            written.append(name)
    return written


def changed_days(spark: SparkSession, config: Config, day: Day) -> list[str]:
    """Returns the dataset's partitions before `day` whose labels are no longer those of the logs."""
    changed = []
    for name in list_days(config.paths.dataset):
        if name < day.name:
            logs = read_day_logs(spark, _events(config), day.on(name), with_features=False)
            with step(spark, f"{name}: look for labels that have changed"):
                labelled = label_day(_events(config), logs, day.on(name))
            if labelled.digest != read_day(config.paths.dataset, name).day.label_digest:
                changed.append(name)
            labelled.unpersist()
            logs.unpersist()
    return changed


def build_day(spark: SparkSession, config: Config, day: Day) -> DayPartition:
    """Writes one day's examples, labels and rejects in the place of those that are there."""
    dataset = config.paths.dataset
    with day_staging(dataset, day.name) as (staging, lease):
        with dataset_lease(dataset):
            check_dataset(config)
        logs = read_day_logs(spark, _events(config), day, with_features=True)
        with step(spark, f"{day.name}: attribute clicks and conversions"):
            labelled = label_day(_events(config), logs, day)
        try:
            partition = _write_day(spark, config, day, logs, labelled, staging)
        finally:
            # After Ctrl-C Spark may be gone.
            with suppress(Py4JError):
                labelled.unpersist()
                logs.unpersist()
        with dataset_lease(dataset):
            check_dataset(config)
            publish_day(dataset, staging, day.name, partition, lease)
            write_day_manifest(dataset, config)
    return partition


def check_dataset(config: Config) -> None:
    """Raises ConfigError or SpecMismatchError if the days of this config don't belong into its dataset."""
    dataset = config.paths.dataset
    if not storage.is_complete(dataset):
        return
    manifest = read_manifest(dataset)
    if manifest.days is None:
        raise ConfigError(f"{dataset} holds a dataset without days: set paths.dataset to another folder")
    require_same_spec(config.features, "the config", manifest.feature_spec, f"the dataset {dataset}")
    theirs = manifest.config["logs"]["events"]
    ours = _events(config).model_dump(mode="json")
    differing = sorted(key for key in _JOIN_KEYS if ours[key] != theirs[key])
    if differing:
        raise ConfigError(
            f"logs.events.{differing[0]} = {ours[differing[0]]}, but the days in {dataset} were made with "
            f"{theirs[differing[0]]}: set it back, or set paths.dataset to another folder"
        )


def _write_day(
    spark: SparkSession, config: Config, day: Day, logs: DayLogs, labelled: Labelled, staging: str
) -> DayPartition:
    paths = {name: getattr(_events(config), name).path for name in (IMPRESSIONS, CLICKS, CONVERSIONS)}
    with step(spark, f"{day.name}: count lines"):
        sources = count_lines(logs, day, paths)
    for source in sources:
        check_rejects(source, config.logs.max_reject_fraction)
    labelled.impressions.select(*LABEL_COLUMNS).write.parquet(
        storage.spark_path(storage.join(staging, LABELS))
    )
    rejected_lines(logs, day).coalesce(1).write.parquet(storage.spark_path(storage.join(staging, REJECTS)))
    with step(spark, f"{day.name}: report the join"):
        report = report_join(labelled.impressions, labelled.clicks, labelled.conversions, day)
    warnings = [*logs.warnings, *check_matches(report, labelled, day, _events(config).min_match_rate)]
    examples = None
    if report["impressions"]["total"] > 0:
        with step(spark, f"{day.name}: join features"):
            _write_lines(config, logs, labelled, staging)
        examples = _write_examples(spark, config, day, sources[0], staging)
    _account_for(sources[0], labelled.dropped, examples.impressions if examples else 0)
    return DayPartition(
        examples=examples,
        day=DayCounts(
            as_of=None if day.as_of is None else day.as_of.isoformat(),
            label_digest=labelled.digest,
            immature=labelled.immature,
            sources=sources,
            warnings=warnings,
            join=report,
        ),
    )


def _write_lines(config: Config, logs: DayLogs, labelled: Labelled, staging: str) -> None:
    """Writes the canonical lines: they are read three times, and cost joins to make."""
    events = _events(config)
    counted = {log: logs.accepted(log) for log in (CLICKS, CONVERSIONS)}
    featured = add_features(labelled.impressions, logs.accepted_catalogs(), counted, events, config.features)
    contexts = featured.contexts.persist()
    lines = canonical_lines(featured._replace(contexts=contexts), config.features)
    lines.contexts.write.parquet(storage.spark_path(storage.join(staging, _CONTEXT_LINES)))
    lines.impressions.write.parquet(storage.spark_path(storage.join(staging, _IMPRESSION_LINES)))
    contexts.unpersist()


def _write_examples(
    spark: SparkSession, config: Config, day: Day, source: SourceCounts, staging: str
) -> PartitionCounts | None:
    """Writes the examples into the folder `grouped`; adds to `source` what the grouping kernel rejects."""
    paths = [storage.join(staging, name) for name in (_CONTEXT_LINES, _IMPRESSION_LINES)]
    plan = GroupingPlan(
        spec=config.features,
        dataset=storage.join(staging, GROUPED),
        partition=day.name,
        source=day.name,
        held_out=None,
        vocabulary=None,
        max_group_size=config.samples.max_group_size,
        row_group_bytes=int(config.samples.row_group_mb * (1 << 20)),
        compression=config.samples.compression,
    )
    reader = spark.read.schema(_LINE_SCHEMA)
    contexts, impressions = (reader.parquet(storage.spark_source(path)) for path in paths)
    lines = CanonicalLines(contexts, impressions)
    written = write_examples(spark, lines, (paths[0], source.path), plan, config.samples.num_files)
    for reason, count in written.sources[1].rejects.items():
        source.rejects[reason] = source.rejects.get(reason, 0) + count
    source.lines_accepted -= sum(written.sources[1].rejects.values())
    if any(written.sources[0].rejects.values()):
        source.notes[REJECTED_CONTEXTS] = sum(written.sources[0].rejects.values())
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


def _events(config: Config) -> EventLogs:
    assert config.logs.events is not None
    return config.logs.events
