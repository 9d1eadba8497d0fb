"""Event logs to day partitions of a dataset: each built, and replaced, for itself.

A day's partition follows from the logs, the config and `--as-of` alone: not from when it is made, nor from
what else is in the dataset. So a run may be repeated, and days may come in any order.
"""

from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, CountMismatchError, MissingLogError, TargetBusyError
from esmm_spark.contracts.event_config import EventLogs
from esmm_spark.contracts.manifest import (
    VALUE_RULE,
    DayCounts,
    DayPartition,
    PartitionCounts,
    SourceCounts,
    require_same_spec,
)
from esmm_spark.contracts.schemas.columns import label_columns, names_of
from esmm_spark.contracts.schemas.layout import LABELS, REJECTS
from esmm_spark.events.backfill import look_back
from esmm_spark.events.canonical_lines import canonical_lines
from esmm_spark.events.counts import count_lines, rejected_lines
from esmm_spark.events.day_folders import (
    GROUPED,
    REJECTED_CONTEXTS,
    dataset_lease,
    day_staging,
    publish_day,
    require_one_value_rule,
    write_day_manifest,
)
from esmm_spark.events.features.features import add_features
from esmm_spark.events.join.labels import Labelled, label_day
from esmm_spark.events.join.needed_folders import IsExcused, built_day, excuses
from esmm_spark.events.join.sources import DayLogs, read_day_logs
from esmm_spark.events.join_report import report_join
from esmm_spark.events.line_checks import check_lines
from esmm_spark.events.matching import check_matches, unused_catalogs
from esmm_spark.events.reading.day import Day
from esmm_spark.events.whole_logs import count_events_per_day, require_whole
from esmm_spark.files import filesystems, storage
from esmm_spark.files.manifest_file import read_written_manifest
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.samples.dataset import check_rejects
from esmm_spark.samples.examples import write_examples
from esmm_spark.samples.plan import GroupingPlan
from esmm_spark.spark.failures import user_errors
from esmm_spark.spark.steps import step

_CONTEXT_LINES, _IMPRESSION_LINES = "context-lines", "impression-lines"
_LINE_SCHEMA = "key string, line string"
# What makes two days' examples comparable, beside the feature spec.
_JOIN_KEYS = {"attribution", "immature", "history", "crosses"}


class BuiltDays(NamedTuple):
    """What a run did.

    Attributes:
        written: the partitions that it wrote, the day itself first.
        left_alone: earlier ones that it could not look at -> why: their logs are no longer whole.
    """

    written: list[str]
    left_alone: dict[str, str]


def build_days(
    spark: SparkSession,
    config: Config,
    day: Day,
    backfill_days: int = 0,
    allowed_missing: Collection[str] = (),
) -> BuiltDays:
    """Builds the partition of a day, and then every one of some days before it whose labels have changed.

    Args:
        spark: the session.
        config: the config.
        day: the day.
        backfill_days: how many days before it to look at; `days_that_can_change` says how many make sense.
        allowed_missing: logs that may lack days, and may hold less of `day` than it was built from before.

    Raises:
        ConfigError: the dataset was made by another join, or from other logs than events.
        SpecMismatchError: the dataset has another feature spec.
        TargetBusyError: another run builds the day, or replaces the dataset.
        MissingLogError: lines of the day that should be there are not.
        InputError, TooManyRejectsError, CountMismatchError: as in all preprocessing; the day stays as it was.
    """
    with user_errors(spark, "mend the logs", f"paths.dataset {config.paths.dataset}"):
        build_day(spark, config, day, frozenset(allowed_missing))
        result = BuiltDays([day.name], {})
        is_excused = excuses(config.paths.dataset, allowed_missing, None)
        for earlier in look_back(spark, config, day, backfill_days, is_excused):
            reason = earlier.left_alone
            if earlier.has_changed:
                try:
                    build_day(spark, config, earlier.day, frozenset(allowed_missing), is_backfill=True)
                    result.written.append(earlier.day.name)
                except (MissingLogError, TargetBusyError) as error:
                    # Another run builds that day: it does so from the same logs.
                    reason = str(error)
            if reason:
                result.left_alone[earlier.day.name] = reason
    return result


def build_day(
    spark: SparkSession,
    config: Config,
    day: Day,
    allowed_missing: frozenset[str] = frozenset(),
    is_backfill: bool = False,
) -> DayPartition:
    """Writes one day's examples, labels and rejects in the place of those that are there.

    Args:
        spark: the session.
        config: the config.
        day: the day.
        allowed_missing: logs that may lack days.
        is_backfill: the run is about a later day: what it allows is not said of the lines that this one was
            built from before, nor remembered with it.
    """
    dataset = config.paths.dataset
    with day_staging(dataset, day.name) as (staging, lease):
        with dataset_lease(dataset):
            check_dataset(config, day.name)
        built = built_day(dataset, day.name)
        is_excused = excuses(dataset, allowed_missing, None if is_backfill else day.date)
        logs = read_day_logs(spark, config.funnel, day, with_features=True, is_excused=is_excused)
        with step(spark, f"{day.name}: attribute events"):
            labelled = label_day(config.funnel, logs, day)
        try:
            events_per_day = count_events_per_day(logs, config.funnel, day)
            if built is not None:
                require_whole(built, events_per_day, day, frozenset() if is_backfill else allowed_missing)
            partition = _write_day(spark, config, day, logs, labelled, staging, is_excused)
        finally:
            # After Ctrl-C Spark may be gone.
            with suppress(Py4JError):
                labelled.unpersist()
                logs.unpersist()
        partition.day.events_per_day = events_per_day
        remembered = built.allowed_missing if is_backfill and built is not None else allowed_missing
        partition.day.allowed_missing = sorted(remembered)
        with dataset_lease(dataset):
            check_dataset(config, day.name)
            publish_day(dataset, staging, day.name, partition, lease)
            write_day_manifest(dataset, config)
    return partition


def check_dataset(config: Config, name: str) -> None:
    """Raises ConfigError or SpecMismatchError if a day of this config doesn't belong into its dataset."""
    dataset = config.paths.dataset
    if not storage.is_complete(dataset):
        return
    manifest = read_written_manifest(dataset)
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
    require_one_value_rule(dataset, manifest.days, name)


def _write_day(
    spark: SparkSession,
    config: Config,
    day: Day,
    logs: DayLogs,
    labelled: Labelled,
    staging: str,
    is_excused: IsExcused,
) -> DayPartition:
    configs = config.funnel.logs
    with step(spark, f"{day.name}: count lines"):
        sources = count_lines(logs, day, {name: log.path for name, log in configs.items()})
    check_lines(sources, logs.raw, configs, day, config.logs.max_reject_fraction, is_excused)
    labels = labelled.impressions.select(*names_of(label_columns(config.tasks.names)))
    labels.write.parquet(filesystems.spark_path(storage.join(staging, LABELS)))
    rejected_lines(logs, day).coalesce(1).write.parquet(
        filesystems.spark_path(storage.join(staging, REJECTS))
    )
    with step(spark, f"{day.name}: report the join"):
        report = report_join(labelled, config.funnel, day)
    warnings = [*logs.warnings, *check_matches(report, labelled, config.funnel, day)]
    examples = None
    if report["impressions"]["total"] > 0:
        with step(spark, f"{day.name}: join features"):
            warnings += _write_lines(config, logs, labelled, staging)
        examples = _write_examples(spark, config, day, sources[0], staging)
    _account_for(sources[0], labelled.dropped, examples.impressions if examples else 0)
    return DayPartition(
        examples=examples,
        day=DayCounts(
            value_rule=VALUE_RULE,
            as_of=None if day.as_of is None else day.as_of.isoformat(),
            label_digest=labelled.digest,
            immature=labelled.immature,
            sources=sources,
            warnings=warnings,
            join=report,
        ),
    )


def _write_lines(config: Config, logs: DayLogs, labelled: Labelled, staging: str) -> list[str]:
    """Writes the canonical lines, which are read three times and cost joins to make; returns warnings."""
    events, catalogs = _events(config), logs.accepted_catalogs()
    counted = {link.log_name: logs.accepted(link.log_name) for link in config.funnel.links}
    featured = add_features(labelled.impressions, catalogs, counted, events, config.features)
    contexts = featured.contexts.persist()
    lines = canonical_lines(featured._replace(contexts=contexts), config.features, config.tasks.names)
    lines.contexts.write.parquet(filesystems.spark_path(storage.join(staging, _CONTEXT_LINES)))
    lines.impressions.write.parquet(filesystems.spark_path(storage.join(staging, _IMPRESSION_LINES)))
    warnings = unused_catalogs(contexts, labelled.impressions, catalogs)
    contexts.unpersist()
    return warnings


def _write_examples(
    spark: SparkSession, config: Config, day: Day, source: SourceCounts, staging: str
) -> PartitionCounts | None:
    """Writes the examples into the folder `grouped`; adds to `source` what the grouping kernel rejects."""
    paths = [storage.join(staging, name) for name in (_CONTEXT_LINES, _IMPRESSION_LINES)]
    plan = GroupingPlan(
        spec=config.features,
        brought=config.brought,
        dataset=storage.join(staging, GROUPED),
        partition=day.name,
        source=day.name,
        held_out=None,
        vocabulary=None,
        max_group_size=config.samples.max_group_size,
        row_group_bytes=int(config.samples.row_group_mb * (1 << 20)),
        compression=config.samples.compression,
        labels_required=config.samples.unknown_labels == "reject",
    )
    reader = spark.read.schema(_LINE_SCHEMA)
    contexts, impressions = (reader.parquet(filesystems.spark_source(path)) for path in paths)
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
