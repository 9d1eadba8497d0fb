"""A day's impressions with labels and attributes, read and checked, whether it is built or fitted on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.manifest import DayCounts
from esmm_spark.events.counts import Counted, count_lines
from esmm_spark.events.features.features import FOUND, Featured, add_features
from esmm_spark.events.join.labels import Labelled, label_day
from esmm_spark.events.join.needed_folders import IsExcused
from esmm_spark.events.join.sources import DayFiles, DayLogs, read_day_logs
from esmm_spark.events.join_report import report_join
from esmm_spark.events.line_checks import check_lines
from esmm_spark.events.matching import check_matches, unused_catalogs
from esmm_spark.events.reading.day import Day
from esmm_spark.events.whole_logs import require_whole
from esmm_spark.reading.lost_values import describe_lost, lost_values, observing
from esmm_spark.spark.steps import step


class LabelledDay(NamedTuple):
    """A day whose lines, and whose events' causes, are as many as they should be.

    Attributes:
        logs: its lines.
        labelled: its impressions, and the events around it.
        counted: what became of the lines.
        report: of the join.
        warnings: what was noticed about files and matches.
    """

    logs: DayLogs
    labelled: Labelled
    counted: Counted
    report: dict[str, Any]
    warnings: list[str]


class CountedFeatures(NamedTuple):
    """A day's features, counted by the pass that writes them.

    Attributes:
        featured: both frames must be written.
        counts: then gives a warning for each field or catalog that seems to be wrong; and number of a
            catalog -> impressions of which it has an entry.
    """

    featured: Featured
    counts: Callable[[], tuple[list[str], dict[str, int]]]


@contextmanager
def labelled_day(
    spark: SparkSession,
    config: Config,
    day: Day,
    files: DayFiles,
    is_excused: IsExcused,
    whole: tuple[DayCounts, frozenset[str]] | None = None,
) -> Iterator[LabelledDay]:
    """Yields the day; it is cached within the block.

    Args:
        spark: the session.
        config: the config.
        day: the day.
        files: those that it reads.
        is_excused: whether a log may lack the day.
        whole: what it was built from before, and the logs that may hold less now; None of a new day.

    Raises:
        MissingLogError, TooManyRejectsError: as `check_lines`, and `require_whole` of a day that was built.
        InputError: as `check_matches`.
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
        max_reject_fraction = config.logs.max_reject_fraction
        check_lines(counted.sources, logs.raw, funnel.logs, day, max_reject_fraction, is_excused)
        with step(spark, f"{day.name}: report the join"):
            report = report_join(labelled, funnel, day)
            warnings = [*logs.warnings, *check_matches(report, labelled, funnel, day)]
        yield LabelledDay(logs, labelled, counted, report, warnings)
    finally:
        # After Ctrl-C Spark may be gone.
        with suppress(Py4JError):
            labelled.unpersist()
            logs.unpersist()


@contextmanager
def counted_features(config: Config, day: LabelledDay) -> Iterator[CountedFeatures]:
    """Yields the features of a day that has impressions; its contexts are cached within the block."""
    logs, funnel, spec, carry = day.logs, config.funnel, config.features, config.samples.carry
    catalogs = logs.accepted_catalogs()
    events = {link.log_name: logs.accepted(link.log_name) for link in funnel.links}
    joined = add_features(day.labelled.impressions, catalogs, events, funnel.events, spec)
    contexts, impressions, every = joined.contexts.persist(), joined.impressions, F.lit(True)
    lost_of_contexts = lost_values(contexts, spec.context_fields, {}, every)
    lost_of_impressions = lost_values(impressions, spec.impression_fields, carry, every)
    places = [f"{FOUND}{number}" for number in range(len(catalogs))]
    found = [F.count_if(place).alias(place) for place in places]
    counted_contexts, counts_of_contexts = observing(contexts, lost_of_contexts)
    counted_impressions, counts_of_impressions = observing(impressions, [*lost_of_impressions, *found])

    featured = joined._replace(contexts=counted_contexts, impressions=counted_impressions)

    def counts() -> tuple[list[str], dict[str, int]]:
        warnings = unused_catalogs(contexts, day.labelled.impressions, catalogs)
        lost = counts_of_contexts() | counts_of_impressions()
        of_catalogs = {str(number): lost.pop(place) for number, place in enumerate(places)}
        return warnings + describe_lost(lost, spec.fields, carry), of_catalogs

    try:
        yield CountedFeatures(featured, counts)
    finally:
        with suppress(Py4JError):
            contexts.unpersist()
