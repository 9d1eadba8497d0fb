"""Refunds take conversions back: from files to labels, held against plain loops."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.events.counts import count_lines
from esmm_spark.events.join.labels import label_day
from esmm_spark.events.join.sources import choose_files, read_day_logs
from esmm_spark.events.join_report import report_join
from esmm_spark.events.reading.day import parse_day
from tests.events.oracle import SECOND, labels, labels_of_rows
from tests.events.small_logs import DAYS, Event, at, config, event, impression, write_json_lines

HOUR_S = 3600
WINDOW_S = 6 * HOUR_S
TIMES = st.one_of(st.none(), st.integers(0, 23))
STATUSES = st.sampled_from(["paid", "paid", "test", None])
# Of one id on one day the first line is kept, of which this oracle knows nothing: ids are the place.
ORDERS = st.lists(st.tuples(TIMES, STATUSES, st.sampled_from("ij")), max_size=4)
REFUNDS = st.lists(st.tuples(st.integers(0, 4), TIMES), max_size=4)
# Users buy independently of each other: one run of Spark looks at many of them.
USERS = st.lists(st.tuples(ORDERS, REFUNDS), min_size=20, max_size=40)


def refunding(tmp_path: Path, **refunds: Any) -> Config:
    """Returns a config of JSON logs whose conversions have ids and are taken back by refunds."""
    files = {"file_format": "json", "day_folders": None, "null_time": "skip"}
    of_refunds = {
        "path": str(tmp_path / "logs" / "refunds"),
        "takes_back": "conversion",
        "event_id": "order.id",
        "time": "time",
        "time_unit": "us",
        "window_s": WINDOW_S,
    }
    return config(
        tmp_path,
        impressions=files,
        clicks=files,
        conversions={**files, "conversion_id": "order", "where": "status = 'paid'", "features": {}},
        reversals={"refunds": {**files, **of_refunds, **refunds}},
    )


def write_logs(
    folder: Path, users: int, conversions: list[Event], refunds: list[Event]
) -> tuple[list[Event], list[Event]]:
    """Writes the logs; returns impressions and clicks, each user's at 0:00 and 8:00, half an hour later."""
    places = [(f"u{user}", item, hour) for user in range(users) for item in "ij" for hour in (0, 8)]
    impressions = [impression("-".join(map(str, p)), at(1, p[2]), user=p[0], item=p[1]) for p in places]
    clicks = [event(at(1, hour + 0.5), user=user, item=item) for user, item, hour in places]
    for name, rows in (("impressions", impressions), ("clicks", clicks), ("conversions", conversions)):
        write_json_lines(folder / name / "a.json", rows)
    write_json_lines(folder / "refunds" / "a.json", refunds)
    return impressions, clicks


@pytest.mark.slow
@pytest.mark.spark
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(USERS, st.sampled_from([None, 9, 12, 20]))
def test_labels_are_those_of_what_was_not_taken_back_in_time(
    spark: SparkSession,
    tmp_path: Path,
    users: list[tuple[list[Any], list[Any]]],
    as_of: int | None,
) -> None:
    def time_of(hour: int | None) -> int | None:
        return None if hour is None else at(1, hour)

    orders = [
        {
            **event(0, user=f"u{user}", item=item),
            "time": time_of(hour),
            "order": f"{user}.{place}",
            "status": status,
        }
        for user, (of_user, _) in enumerate(users)
        for place, (hour, status, item) in enumerate(of_user)
    ]
    returned = [
        {"order": {"id": f"{user}.{place}"}, "time": time_of(hour)}
        for user, (_, of_user) in enumerate(users)
        for place, hour in [*of_user, (9, 1)]
    ]
    orders.append({**event(at(1, 1), user="nobody"), "order": "none", "status": "paid"})
    impressions, clicks = write_logs(tmp_path / "logs", len(users), orders, returned)
    known = at(3, 0) if as_of is None else at(1, as_of)

    def seen(events: list[Event]) -> list[Event]:
        timed = [{**each, "time_us": each["time"]} for each in events if each["time"] is not None]
        return [each for each in timed if each["time_us"] <= known]

    kept = [
        order
        for order in seen(orders)
        if order["status"] == "paid"
        and not any(
            refund["order"]["id"] == order["order"]
            and order["time_us"] <= refund["time_us"] <= order["time_us"] + WINDOW_S * SECOND
            for refund in seen(returned)
        )
    ]
    expected = labels(seen(impressions), seen(clicks), kept, HOUR_S, 2 * 24 * HOUR_S, "last")

    funnel = refunding(tmp_path).funnel
    day = parse_day(DAYS[1], None if as_of is None else f"{DAYS[1]}T{as_of:02}:00:00")
    logs = read_day_logs(spark, funnel, day, choose_files(funnel, day, True), with_features=True)
    labelled = label_day(funnel, logs, day)
    clicked = labelled.all_impressions.where("click = 1").collect()
    found = labels_of_rows(clicked)
    assert found == expected

    sources = {source.name.partition(".")[2]: source for source in count_lines(logs, funnel, day).sources}
    of_orders = sources["conversions"].notes
    assert of_orders.get("filtered", 0) == sum(order["status"] != "paid" for order in orders)
    unpaid = [order for order in orders if order["time"] is None and order["status"] == "paid"]
    assert of_orders.get("without_time", 0) == len(unpaid)
    assert sources["refunds"].lines_read == len(returned)
    matched = {
        (refund["order"]["id"], refund["time"])
        for refund in seen(returned)
        for order in seen(orders)
        if order["status"] == "paid" and order["order"] == refund["order"]["id"]
        if order["time"] <= refund["time"] <= order["time"] + WINDOW_S * SECOND
    }
    report = report_join(labelled, funnel, day)["reversals"]["refunds"]
    distinct = {(refund["order"]["id"], refund["time"]) for refund in seen(returned)}
    assert report == {"total": len(distinct), "matched": len(matched)}
    labelled.unpersist()
    logs.unpersist()


@pytest.mark.spark
def test_what_follows_an_event_that_is_taken_back_has_no_cause(spark: SparkSession, tmp_path: Path) -> None:
    """A click that never was, by a log of fraud: its conversion belongs to the click before it."""
    files = {"day_folders": None, "file_format": "json"}
    fraud = {"path": str(tmp_path / "logs" / "fraud"), "takes_back": "click", "event_id": "click"}
    clicks = {**files, "click_id": "id"}
    funnel = config(
        tmp_path,
        impressions=files,
        clicks=clicks,
        conversions=files,
        reversals={"fraud": {**files, **fraud, "time": "time", "time_unit": "us"}},
    ).funnel
    folder = tmp_path / "logs"
    impressions = [impression(name, at(1, hour)) for name, hour in (("a", 1), ("b", 2))]
    write_json_lines(folder / "impressions" / "a.json", impressions)
    of_clicks = [event(at(1, hour), id=name) for name, hour in (("first", 1.5), ("second", 2.5))]
    write_json_lines(folder / "clicks" / "a.json", of_clicks)
    write_json_lines(folder / "conversions" / "a.json", [event(at(1, 3))])
    write_json_lines(folder / "fraud" / "a.json", [{"click": "second", "time": at(1, 4)}])
    for as_of, expected in (
        ("03:59:59", {"a": (1, 0), "b": (1, 1)}),
        ("04:00:00", {"a": (1, 1), "b": (0, 0)}),
    ):
        day = parse_day(DAYS[1], f"{DAYS[1]}T{as_of}")
        choice = choose_files(funnel, day, with_features=False)
        logs = read_day_logs(spark, funnel, day, choice, with_features=False)
        rows = label_day(funnel, logs, day).all_impressions.collect()
        assert {row.impression_id: (row.click, row.conversion) for row in rows} == expected


def test_a_label_is_sure_when_it_can_no_longer_be_taken_back(tmp_path: Path) -> None:
    windows = HOUR_S + 2 * 24 * HOUR_S
    assert refunding(tmp_path).funnel.longest_window_s == windows + WINDOW_S


def test_what_is_taken_back_is_an_event_of_a_task_with_ids(tmp_path: Path) -> None:
    for keys, expected in (
        ({"takes_back": "order"}, "takes_back = 'order' is no task: there are click, conversion"),
        ({"takes_back": "click"}, "refunds names events of clicks by their id, .*: set clicks.click_id"),
    ):
        with pytest.raises(ValidationError, match=expected):
            refunding(tmp_path, **keys)
