"""Events that find no cause: told with an id of both sides, or refused."""

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.events.catalog import Catalog
from esmm_spark.contracts.funnel import Funnel
from esmm_spark.events.days import build_days
from esmm_spark.events.join.labels import Labelled
from esmm_spark.events.matching import check_matches, unused_catalogs
from esmm_spark.events.reading.day import parse_day
from tests.events.small_logs import DAYS, at, config, event, impression, rows_of, write_log

pytestmark = pytest.mark.spark

DAY = parse_day("2026-11-24", None)
OWNED = "user_id string, item_id string, time_us bigint, owner_impression_id string, cause_time_us bigint"


@pytest.fixture
def labelled(spark: SparkSession) -> Labelled:
    """Impressions of user 11, clicks of 0011: nothing was found; conversions have a click, no impression."""
    impressions = spark.createDataFrame(
        [("11", "i", at(1, 1)), ("10", "j", at(0, 1))], "user_id string, item_id string, time_us bigint"
    )
    clicks = [("0011", "i", at(1, 2), None, None), ("0010", "i", at(0, 2), None, None)]
    found = [("0011", "i", at(1, 3), None, at(1, 2))]
    return Labelled(
        impressions,
        {"click": spark.createDataFrame(clicks, OWNED), "conversion": spark.createDataFrame(found, OWNED)},
        reversals={},
        immature=0,
        what_immature="keep",
        digest="",
    )


def test_a_catalog_of_which_no_context_has_an_attribute_is_told(
    spark: SparkSession, labelled: Labelled
) -> None:
    schema = (
        "context_key string, `@brand` string, `@kind` string, `@age` string, found_in_catalog_0 boolean, "
        "found_in_catalog_1 boolean"
    )
    # Defaults stand where there is no entry, and nothing in the entry of b.
    rows = [("a", "none", "none", "7", False, True), ("b", None, None, None, True, False)]
    contexts = spark.createDataFrame(rows, schema)
    shared: dict[str, Any] = {"path": "p", "key": "item", "key_column": "item"}
    catalogs = [
        (
            Catalog.model_validate({**shared, "features": {"brand": "b", "kind": "k"}}),
            spark.createDataFrame([("007",)], "item_id string"),
        ),
        (
            Catalog.model_validate({**shared, "features": {"age": "age"}}),
            spark.createDataFrame([("007",)], "item_id string"),
        ),
    ]
    assert unused_catalogs(contexts, labelled.all_impressions, catalogs) == [
        "logs.events.catalogs.0: none of 2 contexts has an attribute of it (item_id is like 'i' in "
        "impressions and like '007' in the catalog)"
    ]
    assert unused_catalogs(contexts, labelled.all_impressions, []) == []


@pytest.mark.slow
def test_a_day_whose_clicks_match_nothing_is_not_published_and_doubles_match_integers(
    spark: SparkSession, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    write_log(logs / "impressions", [impression("i", at(1, 1), user=11, item=7)])
    write_log(logs / "conversions", [event(at(1, 2), user=11, item=7)])
    write_log(logs / "clicks", [event(at(1, 1.5), user="0011", item="007")] * 100)
    small = config(tmp_path)
    with pytest.raises(
        InputError, match=r"0 of 100 clicks of ds=2026-11-24 .*'0011' in clicks and like '11'"
    ):
        build_days(spark, small, DAY)
    assert not (Path(small.paths.dataset) / "examples" / DAY.name).exists()
    # As pandas writes integers of a column with a gap.
    write_log(
        logs / "clicks", [event(at(1, 1.5), user=11.0, item=7.0), event(at(1, 1.6), user=None, item=7.0)]
    )
    build_days(spark, small, DAY)
    (row,) = rows_of(small, "examples", DAYS[1])
    assert (row["click"], row["conversion"]) == ([1], [1])


def funnel(tmp_path: Path, min_match_rate: float) -> Funnel:
    return config(tmp_path, min_match_rate=min_match_rate).funnel


def report(clicks: int, matched: int, impressions: int = 7) -> dict[str, Any]:
    nothing = {"of_orphan_causes": 0, "of_earlier_causes": 0}
    return {
        "impressions": {"total": impressions},
        "clicks": {"total": clicks, "matched": matched, **nothing},
        "conversions": {"total": 1, "matched": 0, **nothing, "of_orphan_causes": 1},
    }


def test_a_log_none_of_whose_events_match_is_told_with_an_id_of_both_sides(
    labelled: Labelled, tmp_path: Path
) -> None:
    told = (
        "logs.events.clicks: 0 of 99 clicks of ds=2026-11-24 belong to any of the 7 impressions (user_id is "
        "like '0011' in clicks and like '11' in impressions; item_id is like 'i' in clicks and like 'i' in "
        "impressions)"
    )
    assert check_matches(report(99, 0), labelled, funnel(tmp_path, 0.001), DAY) == [told]
    assert check_matches(report(1000, 0), labelled, funnel(tmp_path, 0.0), DAY) == [
        told.replace("99", "1000")
    ]
    # Without impressions there is nothing to match.
    (warning,) = check_matches(report(1000, 0, impressions=0), labelled, funnel(tmp_path, 0.001), DAY)
    assert "0 of 1000 clicks" in warning


@pytest.mark.parametrize(
    ("total", "matched", "min_match_rate", "is_refused"),
    [
        (100, 0, 0.001, True),
        (2001, 2, 0.001, True),
        (2000, 2, 0.001, False),
        (99, 1, 1.0, False),
        (100, 99, 1.0, True),
        (0, 0, 1.0, False),
    ],
)
def test_of_100_events_or_more_a_share_must_match(
    labelled: Labelled, tmp_path: Path, total: int, matched: int, min_match_rate: float, is_refused: bool
) -> None:
    counts = report(total, matched)
    if not is_refused:
        assert check_matches(counts, labelled, funnel(tmp_path, min_match_rate), DAY) == []
        return
    with pytest.raises(
        InputError, match=rf"{matched} of {total} clicks .*'0011'.*min_match_rate={min_match_rate:g} asks"
    ):
        check_matches(counts, labelled, funnel(tmp_path, min_match_rate), DAY)
