"""Yields a dataset's earlier days with their labels as of now, for a backfill."""

from collections.abc import Iterator
from datetime import timedelta
from math import ceil
from typing import NamedTuple

from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import MissingLogError
from esmm_spark.contracts.funnel import Funnel
from esmm_spark.contracts.manifest import DayCounts
from esmm_spark.contracts.tables.log_files import UTC_ZONE
from esmm_spark.events.day_folders import dataset_lease
from esmm_spark.events.join.labels import label_day
from esmm_spark.events.join.needed_folders import IsExcused
from esmm_spark.events.join.sources import DayFiles, choose_files, read_day_logs
from esmm_spark.events.known_inputs import (
    KnownInputs,
    digest_of_inputs,
    read_known_inputs,
    remember_inputs,
)
from esmm_spark.events.reading.day import DAY_US, SECOND_US, Day
from esmm_spark.events.whole_logs import count_events_per_day, require_whole
from esmm_spark.files.manifest_file import list_days, read_day
from esmm_spark.spark.small_inputs import small_input_settings
from esmm_spark.spark.steps import step


class EarlierDay(NamedTuple):
    """An earlier day of the dataset.

    Attributes:
        day: it.
        has_changed: whether its labels are no longer those of the logs.
        left_alone: why nobody can tell: its logs are no longer whole. Empty where they are.
    """

    day: Day
    has_changed: bool
    left_alone: str


def days_that_can_change(funnel: Funnel) -> int:
    """Returns how many days before a day events of it, or late ones that come with it, can still change.

    An event at time t changes labels of impressions since t - the windows on its chain. What is new in a
    day's folders happened on the day or up to `late_days` before. So day D - n can change if its last
    microsecond isn't before the start of D - late days - these windows: n <= late days + the longest chain's
    windows in days, rounded up.

    Example:
        Windows of 1 and 7 days, a day late: 9.

    Where clocks change a day may have 23 hours: one day more.
    """
    late_days = max(log.late_days for log in funnel.logs.values())
    is_shorter = funnel.events.time_zone != UTC_ZONE
    return late_days + ceil(funnel.longest_window_s * SECOND_US / DAY_US) + is_shorter


def look_back(
    spark: SparkSession, config: Config, day: Day, num_days: int, is_excused: IsExcused
) -> Iterator[EarlierDay]:
    """Yields the days of the dataset in [day - num_days, day), in order.

    Args:
        spark: the session.
        config: the config.
        day: the day that was built.
        num_days: how far back to look.
        is_excused: see events/join/needed_folders.py.
    """
    first = Day(day.date - timedelta(days=num_days)).name
    for name in list_days(config.paths.dataset):
        if first <= name < day.name:
            yield _look_at(spark, config, day.on(name), is_excused)


def _look_at(spark: SparkSession, config: Config, day: Day, is_excused: IsExcused) -> EarlierDay:
    dataset, funnel = config.paths.dataset, config.funnel
    built = read_day(dataset, day.name).day
    try:
        files = choose_files(funnel, day, with_features=False, is_excused=is_excused)
    except MissingLogError as error:
        return EarlierDay(day, False, str(error))
    inputs = KnownInputs(built.label_digest, digest_of_inputs(funnel, day, files))
    if read_known_inputs(dataset).get(day.name) == inputs:
        return EarlierDay(day, False, "")
    with small_input_settings(spark, files.num_bytes):
        found = _read(spark, funnel, day, files, built)
    if found == EarlierDay(day, False, ""):
        with dataset_lease(dataset):
            remember_inputs(dataset, day.name, inputs)
    return found


def _read(spark: SparkSession, funnel: Funnel, day: Day, files: DayFiles, built: DayCounts) -> EarlierDay:
    logs = read_day_logs(spark, funnel, day, files, with_features=False)
    try:
        with step(spark, f"{day.name}: look for labels that have changed"):
            require_whole(built, count_events_per_day(logs, funnel, day), day, frozenset(), funnel.arriving)
            labelled = label_day(funnel, logs, day)
        labelled.unpersist()
        return EarlierDay(day, labelled.digest != built.label_digest, "")
    except MissingLogError as error:
        return EarlierDay(day, False, str(error))
    finally:
        logs.unpersist()
