"""Checks that a day's events match causes: ids that differ between logs make every label 0."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.events.catalog import Catalog
from esmm_spark.contracts.funnel import IMPRESSIONS, EventLink, Funnel
from esmm_spark.events.features.features import FOUND
from esmm_spark.events.join.attribution import CAUSE_TIME_US
from esmm_spark.events.join.labels import Labelled
from esmm_spark.events.reading.day import Day
from esmm_spark.reading.values import quoted

# Of fewer events, a rate says little.
_MIN_EVENTS = 100


class _Match(NamedTuple):
    """Events of a log and what they should belong to.

    Attributes:
        key: where the log's config stands.
        log, cause: the names of the two logs.
        events: the log's, of all days.
        causes: the other's.
        keys: the ids by which they are matched.
        found: the column of `events` that is null where nothing was found.
    """

    key: str
    log: str
    cause: str
    events: DataFrame
    causes: DataFrame
    keys: Sequence[str]
    found: str


def check_matches(report: Mapping[str, Any], labelled: Labelled, funnel: Funnel, day: Day) -> list[str]:
    """Returns a warning for each log none of whose events of the day has a cause.

    A click's cause is an impression, a conversion's a click, whether or not that has an impression.

    Args:
        report: what `report_join` gave.
        labelled: what it was given.
        funnel: the logs' config; with a `min_match_rate` of 0 nothing is an error.
        day: the day.

    Raises:
        InputError: of a log with 100 events or more on the day a smaller share has a cause.
    """
    warnings, min_match_rate = [], funnel.events.min_match_rate
    for match in (_match_of(link, labelled, funnel) for link in funnel.links):
        counts, num_causes = report[match.log], report[match.cause]["total"]
        # A conversion of an orphan click, or of one before the day, has found that click.
        matched = counts["matched"] + counts["of_orphan_causes"] + counts["of_earlier_causes"]
        total = counts["total"]
        # Of a day without causes the logs' own checks tell.
        is_asked = total >= _MIN_EVENTS and num_causes > 0
        if total == 0 or (matched > 0 and not (is_asked and matched < min_match_rate * total)):
            continue
        message = (
            f"{match.key}: {matched} of {total} {match.log} of {day.name} belong to any of the "
            f"{num_causes} {match.cause}{_examples(match, day)}"
        )
        if is_asked and matched < min_match_rate * total:
            raise InputError(
                f"{message}: fewer than logs.events.min_match_rate={min_match_rate:g} asks for; map columns "
                "whose ids agree, or set it to 0 if this is right; nothing was replaced"
            )
        warnings.append(message)
    return warnings


def _match_of(link: EventLink, labelled: Labelled, funnel: Funnel) -> _Match:
    cause, events = funnel.cause_of(link), labelled.events[link.task]
    if cause is None:
        name, causes = IMPRESSIONS, labelled.all_impressions
    else:
        name, causes = cause.log_name, labelled.events[cause.task]
    return _Match(link.key, link.log_name, name, events, causes, link.matched_by, CAUSE_TIME_US)


def unused_catalogs(
    contexts: DataFrame, impressions: DataFrame, catalogs: Sequence[tuple[Catalog, DataFrame]]
) -> list[str]:
    """Returns a warning for each catalog of which no context has an attribute, its defaults aside.

    Args:
        contexts: with the attributes of their first impressions, and FOUND of each catalog, cached.
        impressions: the day's, cached.
        catalogs: each with its accepted lines.
    """
    if not catalogs:
        return []
    has_any = [
        F.col(f"{FOUND}{number}")
        & reduce(Column.__or__, (F.col(quoted(f"@{name}")).isNotNull() for name in catalog.features))
        for number, (catalog, _) in enumerate(catalogs)
    ]
    counts = [F.count_if(each).alias(f"of_{number}") for number, each in enumerate(has_any)]
    sums = contexts.agg(F.count(F.lit(1)).alias("total"), *counts).collect()[0]
    warnings = []
    for number, (catalog, lines) in enumerate(catalogs):
        if sums[f"of_{number}"] == 0:
            key = f"{catalog.key}_id"
            ours, theirs = (frame.agg(F.min(key)).collect()[0][0] for frame in (impressions, lines))
            warnings.append(
                f"logs.events.catalogs.{number}: none of {sums.total} contexts has an attribute of it ({key} "
                f"is like {ours!r} in impressions and like {theirs!r} in the catalog)"
            )
    return warnings


def _examples(match: _Match, day: Day) -> str:
    """Returns an id of each side, for a message."""
    is_of_day = day.holds(F.col("time_us"))
    least = [F.min(key).alias(key) for key in match.keys]
    theirs = match.causes.where(is_of_day).agg(*least).collect()[0]
    ours = match.events.where(is_of_day & F.col(match.found).isNull()).agg(*least).collect()[0]
    shown = [
        f"{key} is like {ours[key]!r} in {match.log} and like {theirs[key]!r} in {match.cause}"
        for key in match.keys
        if theirs[key] is not None
    ]
    return f" ({'; '.join(shown)})" if shown else ""
