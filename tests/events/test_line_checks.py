"""What is said of logs whose lines are bad, or of other days."""

from collections.abc import Sequence
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import MissingLogError, TooManyRejectsError
from esmm_spark.contracts.event_config import ClickLog
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.events.join.needed_folders import IsExcused, never_excused
from esmm_spark.events.line_checks import check_lines, likely_unit
from esmm_spark.events.reading.day import parse_day
from tests.events.small_logs import at

DAY = parse_day("2026-11-24", None)
NOON_S = at(1, 12) // 1_000_000


@pytest.mark.parametrize(
    ("time_us", "unit", "likely"),
    [
        (NOON_S * 1_000, "ms", "s"),
        (NOON_S, "us", "s"),
        (NOON_S * 1_000, "us", "ms"),
        (NOON_S * 1_000 * 1_000_000, "s", "ms"),
        (NOON_S * 1_000_000 * 1_000, "ms", "us"),
        (NOON_S * 1_000_000, "ms", None),
        (NOON_S * 1_000_000, "iso", None),
        (123, "ms", None),
    ],
)
def test_the_unit_that_brings_a_time_near_to_the_day_is_named(
    time_us: int, unit: str, likely: str | None
) -> None:
    assert likely_unit(time_us, unit, DAY) == likely


def check(
    spark: SparkSession, source: dict[str, Any], lines: Sequence[tuple[int | None, str | None]], **keys: Any
) -> None:
    shared = {"path": "raw/clicks", "time": "t", "user_id": "user", "item_id": "item"}
    log = ClickLog.model_validate({**shared, **keys})
    counts = SourceCounts(name="ds=2026-11-24.clicks", path="raw/clicks", **source)
    raw = spark.createDataFrame(lines, "time_us bigint, reason string")
    is_excused: IsExcused = never_excused
    check_lines([counts], {"clicks": raw}, {"clicks": log}, DAY, 0.1, is_excused)


@pytest.mark.spark
def test_a_log_in_the_wrong_unit_is_told_with_the_likely_one(spark: SparkSession) -> None:
    early = {"lines_read": 3, "lines_accepted": 0}
    in_1970 = [(NOON_S * 1_000 + number, "time_out_of_range") for number in range(3)]
    said = (
        r"3 of 3 lines of ds=2026-11-24.clicks \(raw/clicks\) are bad .*; t seems to be in seconds, not in "
        r"milliseconds: logs.events.clicks.time_unit = s makes 2026-11-24 12:00:00 of 1970-01-21 18:45:21"
    )
    with pytest.raises(TooManyRejectsError, match=said):
        check(spark, {**early, "rejects": {"time_out_of_range": 3}}, in_1970)
    # Where `earliest_time` lets them in, they are other days'.
    others = [(time_us, None) for time_us, _ in in_1970]
    with pytest.raises(
        MissingLogError, match=r"hardly anything of ds=2026-11-24, none of the 3 lines.*seconds, not in"
    ):
        check(spark, {**early, "notes": {"other_days": 3}}, others)
    with pytest.raises(
        MissingLogError, match=r"read as 2026-11-23 01:00:00 and the like: is t the right column"
    ):
        check(spark, {**early, "notes": {"other_days": 3}}, [(at(0, 1), None)] * 3)
    with pytest.raises(
        MissingLogError, match=r"none of the 0 lines read: wait for the log.*nothing was replaced$"
    ):
        check(spark, {"lines_read": 0, "lines_accepted": 0}, [])


def test_an_empty_catalog_is_refused_and_one_of_bad_rows_too() -> None:
    def checked(lines_read: int, rejects: dict[str, int]) -> None:
        accepted = lines_read - sum(rejects.values())
        catalog = SourceCounts(
            name="ds=2026-11-24.catalogs.0",
            path="raw/items",
            lines_read=lines_read,
            lines_accepted=accepted,
            rejects=rejects,
        )
        check_lines([catalog], {}, {}, DAY, 0.1, never_excused)

    checked(10, {"missing_id": 1})
    with pytest.raises(
        MissingLogError, match=r"^raw/items holds no lines, and no impression would find an attri"
    ):
        checked(0, {})
    with pytest.raises(
        TooManyRejectsError, match=r"2 of 10 lines of ds=2026-11-24\.catalogs\.0 .*never_valid 2"
    ):
        checked(10, {"never_valid": 2})


@pytest.mark.spark
def test_a_day_may_be_a_small_part_of_a_log_but_not_next_to_nothing(spark: SparkSession) -> None:
    def read(ours: int, others: int, **keys: Any) -> None:
        counts = {"lines_read": ours + others, "lines_accepted": ours, "notes": {"other_days": others}}
        check(spark, counts, [(at(0, 1), None)], **keys)

    read(1, 9_999)
    with pytest.raises(MissingLogError, match="hardly anything of ds=2026-11-24, 1 of the 10002 lines read"):
        read(1, 10_001)
    read(1, 10_001, day_folders="ds")
    repeated = {"lines_read": 2, "lines_accepted": 0, "rejects": {}, "notes": {"after_as_of": 2}}
    check(spark, repeated, [])
