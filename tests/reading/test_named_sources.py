"""Event logs by config: paths, concatenations, expressions, `where`, `explode`, against plain loops."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.event_config import ClickLog
from esmm_spark.events.reading.lines import read_events
from esmm_spark.reading.files import list_log_files
from esmm_spark.reading.raw_columns import PATH
from tests.events.small_logs import write_json_lines

pytestmark = pytest.mark.spark

KEY = "logs.events.clicks"
NOON_S = 1_795_435_200  # 2026-11-23 12:00


def read(spark: SparkSession, folder: Path, **keys: Any) -> list[dict[str, Any]]:
    """Returns the lines of a log of clicks, whose ids are those that `keys` map."""
    log = ClickLog.model_validate({"path": str(folder), "time_unit": "s", **keys})
    ids = {name: (name, source) for name in ("click_id", "user_id") if (source := getattr(log, name))}
    lines = read_events(spark, KEY, log, ids, list_log_files(log.path, None), (date.min, date.max)).lines
    return [row.asDict() for row in lines.collect()]


def test_items_of_a_nested_log_are_lines_with_ids_that_are_put_together(
    spark: SparkSession, tmp_path: Path
) -> None:
    orders: list[dict[str, Any]] = [
        {
            "order": "o1",
            "at": NOON_S,
            "user": {"id": 7, "tags": ["a", "b"]},
            "lines": [{"sku": 1}, {"sku": 2}],
        },
        {"order": "o2", "at": NOON_S + 1, "user": {"id": 8, "tags": []}, "lines": []},
        {"order": "o3", "at": NOON_S + 2, "user": {"id": 9}, "lines": [{"sku": 1, "price": 2.5}]},
    ]
    write_json_lines(tmp_path / "a.json", [*orders, "{"])
    rows = read(
        spark,
        tmp_path,
        file_format="json",
        explode="lines",
        time={"expr": "cast(at as bigint) + lines_position"},
        click_id={"concat": ["order", "lines_position"]},
        user_id="user.id",
        features={
            "sku": "lines.sku",
            "tags": "user.tags",
            "price": {"expr": "round(lines.price)"},
            "source": {"constant": "shop"},
        },
    )
    known = [row for row in rows if row["reason"] is None and row["note"] is None]
    found = sorted(
        (row["click_id"], row["time_us"], row["user_id"], row["@sku"], row["@tags"]) for row in known
    )
    expected = [
        (
            f"{order['order']}-{place}",
            (order["at"] + place) * 1_000_000,
            str(order["user"]["id"]),
            str(line["sku"]),
            order["user"].get("tags") or None,
        )
        for order in orders
        for place, line in enumerate(order["lines"])
    ]
    assert found == expected
    assert {row["@price"] for row in known} == {None, "3"}
    assert {row["@source"] for row in known} == {"shop"}
    left = sorted((str(row["reason"]), str(row["note"])) for row in rows if row not in known)
    assert left == [("None", "without_items"), ("malformed_line", "None")]
    assert PATH not in rows[0]


STATUSES = st.sampled_from([None, "paid", "cancelled", "refunded"])
LINES = st.lists(st.tuples(STATUSES, st.one_of(st.none(), st.integers(0, 9))), min_size=1, max_size=60)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES)
def test_where_leaves_out_what_it_is_not_true_of_and_rejects_none_of_it(
    spark: SparkSession, tmp_path: Path, lines: list[tuple[str | None, int | None]]
) -> None:
    rows = [
        {"id": str(place), "at": NOON_S, "status": status, "price": price}
        for place, (status, price) in enumerate(lines)
    ]
    # An id is missing, and it matters only to who isn't left out.
    rows += [
        {"id": None, "at": NOON_S, "status": "cancelled", "price": 1},
        {"id": None, "at": NOON_S, "status": "paid", "price": 9},
    ]
    table = pa.Table.from_pylist(rows, pa.schema({"id": "string", "at": "int64", "status": "string"} | PRICE))
    pq.write_table(table, tmp_path / "a.parquet")
    where = "status not in ('cancelled', 'refunded') or price > 7"
    found = read(spark, tmp_path, time="at", click_id="id", where=where)

    def is_true_of(status: str | None, price: int | None) -> bool:
        return status == "paid" or (price is not None and price > 7)

    kept = [str(place) for place, line in enumerate(lines) if is_true_of(*line)]
    accepted = [row["click_id"] for row in found if row["reason"] is None and row["note"] is None]
    assert sorted(accepted) == sorted(kept)
    assert [row["reason"] for row in found if row["reason"]] == ["missing_id"]
    assert sum(row["note"] == "filtered" for row in found) == len(rows) - len(kept) - 1


PRICE = {"price": pa.int64()}


def test_a_mistake_is_told_before_anything_is_read(spark: SparkSession, tmp_path: Path) -> None:
    write_json_lines(tmp_path / "a.json", [{"id": 1, "at": NOON_S, "user": {"id": 7}}])
    shared = {"file_format": "json", "time": "at"}
    for keys, expected in (
        ({"click_id": "user.idd"}, r"clicks.click_id = 'user.idd' is no column of .*: did you mean user.id"),
        ({"click_id": {"expr": "nothing(id)"}}, r"clicks.click_id: expr 'nothing\(id\)' fails on"),
        (
            {"click_id": {"expr": "array(id)"}},
            r'click_id = \{expr: "array\(id\)"\} is array<string>, which can',
        ),
        ({"click_id": "id", "where": "id"}, "clicks.where = 'id' is no condition, it gives string"),
        ({"click_id": "id", "explode": "user"}, "clicks.explode = 'user' is .*, and must be a list"),
    ):
        with pytest.raises(ConfigError, match=expected):
            read(spark, tmp_path, **shared, **keys)


def test_an_expression_that_gives_another_type_in_later_files_is_told(
    spark: SparkSession, tmp_path: Path
) -> None:
    for name, value in (("a", 1), ("b", "x")):
        row = {"id": "1", "at": NOON_S, "v": {"w": value}}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=r"features.w = v.w is (bigint|string) in some files of .* cast it"):
        read(spark, tmp_path, time="at", click_id="id", features={"w": "v.w"})
    rows = read(spark, tmp_path, time="at", click_id="id", features={"w": {"expr": "string(v.w)"}})
    assert sorted(row["@w"] for row in rows) == ["1", "x"]
    assert json.dumps(rows[0]["line"]) == "null"
