"""Builds a dataset from event logs, a partition per day, each replaced for itself.

A day's partition follows from the logs, the config and `--as-of` alone: not from when it is made, nor from
what else is in the dataset. So a run may be repeated, and days may come in any order.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, MissingLogError, TargetBusyError
from esmm_spark.contracts.manifest import DayPartition, require_same_spec
from esmm_spark.contracts.tables.log_files import UTC_ZONE
from esmm_spark.events.backfill import look_back
from esmm_spark.events.day_folders import (
    dataset_lease,
    day_staging,
    publish_day,
    require_one_value_rule,
    write_day_manifest,
)
from esmm_spark.events.day_writing import write_day
from esmm_spark.events.join.needed_folders import built_day, excuses
from esmm_spark.events.join.sources import choose_files
from esmm_spark.events.known_inputs import KnownInputs, digest_of_inputs, remember_inputs
from esmm_spark.events.reading.day import Day
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import read_written_manifest
from esmm_spark.samples.frozen import frozen_of, require_same_frozen
from esmm_spark.spark.failures import user_errors
from esmm_spark.spark.small_inputs import small_input_settings

# What makes two days' examples comparable, beside the feature spec: keys of `logs.events`, of a task's log.
_JOIN_KEYS = ("attribution", "immature", "history", "crosses")
_TASK_JOIN_KEYS = ("window_s", "parent_event")
_REVERSAL_KEYS = ("takes_back", "window_s")
# Of each log: which lines of its files it has.
_LINE_KEYS = ("where", "explode")


class BuiltDays(NamedTuple):
    """The partitions that a run wrote, and those that it left as they were.

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
        files = choose_files(config.funnel, day, with_features=True, is_excused=is_excused)
        whole = None if built is None else (built, frozenset() if is_backfill else allowed_missing)
        with small_input_settings(spark, files.num_bytes):
            partition = write_day(spark, config, day, files, whole, staging, is_excused)
        remembered = built.allowed_missing if is_backfill and built is not None else allowed_missing
        partition.day.allowed_missing = sorted(remembered)
        with dataset_lease(dataset):
            check_dataset(config, day.name)
            publish_day(dataset, staging, day.name, partition, lease)
            write_day_manifest(dataset, config)
            inputs = digest_of_inputs(config.funnel, day, files)
            remember_inputs(dataset, day.name, KnownInputs(partition.day.label_digest, inputs))
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
    if (frozen := frozen_of(config)) is not None:
        require_same_frozen(frozen, dataset, manifest)
    ours, theirs = _join_of(config.model_dump(mode="json")), _join_of(manifest.config)
    differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if differing:
        key = differing[0]
        raise ConfigError(
            f"{key} = {ours.get(key)}, but the days in {dataset} were made with {theirs.get(key)}: set it "
            "back, or set paths.dataset to another folder"
        )
    require_one_value_rule(dataset, manifest.days, name)


def _join_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a config, as it is stored, that all days of a dataset must have alike."""
    events = config["logs"]["events"]
    return {
        "tasks": config["tasks"],
        "samples.carry": config["samples"]["carry"],
        **{f"logs.events.{key}": events[key] for key in _JOIN_KEYS},
        **{
            f"logs.events.reversals.{name}.{key}": log.get(key)
            for name, log in events.get("reversals", {}).items()
            for key in (*_REVERSAL_KEYS, *_LINE_KEYS)
        },
        "logs.events.time_zone": events.get("time_zone", UTC_ZONE),
        **{
            f"logs.events.{name}.{key}": log.get(key)
            for name, log in events.items()
            if isinstance(log, dict) and "path" in log
            for key in _LINE_KEYS
        },
        **{
            f"logs.events.tasks.{task}.{key}": log.get(key)
            for task, log in events["tasks"].items()
            for key in (*_TASK_JOIN_KEYS, *_LINE_KEYS)
        },
    }
