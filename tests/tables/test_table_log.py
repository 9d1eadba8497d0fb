"""A single table to examples: groups, contexts, counts; every line accounted for."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import InputError, TooManyRejectsError
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.samples.dataset import preprocess
from esmm_spark.tables.table_log import read_table
from tests.events.small_logs import row_of
from tests.tables.small_tables import Line, impressions_of, table_config, write_table

pytestmark = pytest.mark.spark


def run(spark: SparkSession, config: Config) -> Manifest:
    return preprocess(spark, config, read_table)


def random_lines(number: int) -> list[Line | str]:
    """Returns lines of ten users, their ages by user, some of them filtered, some of no user."""
    random = np.random.default_rng(1)
    lines: list[Line | str] = []
    for place in range(number):
        user, click = int(random.integers(10)), int(random.integers(2))
        lines.append(
            {
                "id": f"i{place}",
                "user": "" if place % 10 == 9 else f"u{user}",
                "age": None if user % 4 == 0 else str(20 + user),
                "item": str(random.integers(30)),
                "click": str(click),
                "order": str(click * int(random.integers(2))),
                "status": "cancelled" if place % 7 == 0 else "ok",
            }
        )
    return lines


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_groups_are_those_of_a_dictionary_and_every_line_is_accounted_for(
    spark: SparkSession, tmp_path: Path, suffix: str
) -> None:
    lines = random_lines(60)
    config = table_config(
        tmp_path, write_table(tmp_path / f"log.{suffix}", lines), where="status <> 'cancelled'"
    )
    manifest = run(spark, config)
    expected: dict[str, dict[str, Line]] = {}
    for line in lines:
        assert isinstance(line, dict)
        if line["status"] == "ok" and line["user"]:
            expected.setdefault(line["user"], {})[line["id"]] = line
    found = impressions_of(spark, config, manifest, "train")
    assert {row["impression_id"] for row in found} == {i for group in expected.values() for i in group}
    for row in found:
        line = expected[row["group_key"]][row["impression_id"]]
        assert (row["click"], row["conversion"]) == (int(line["click"]), int(line["order"]))
        for field in ("age", "item"):
            rows = [] if line[field] is None else [row_of(config, field, line[field])]
            assert [config.features.offsets[field] + bucket for bucket in row[field]] == rows
    assert manifest.partitions["split=train"].groups == len(expected)
    (source,) = manifest.sources
    bad = sum(line["status"] == "ok" and not line["user"] for line in lines if isinstance(line, dict))
    assert source.lines_read == 60
    assert source.lines_accepted == len(found)
    assert source.rejects == {"missing_id": bad}
    assert source.notes == {"filtered": 60 - bad - len(found)}
    rejects = pq.read_table(f"{config.paths.dataset}/rejects").to_pylist()
    assert [row["reason"] for row in rejects] == ["missing_id"] * bad


def differing_lines() -> list[Line | str]:
    def line(number: int, user: str, age: str | None, at: int) -> Line:
        labels = {"click": "0", "order": "0"}
        return {"id": str(number), "user": user, "age": age, "item": "7", "at": at, **labels}

    return [line(1, "u1", "30", 3), line(2, "u1", "30", 2), line(3, "u1", "31", 1), line(4, "u2", None, 1)]


@pytest.mark.parametrize(("on_difference", "age"), [("most_frequent", "30"), ("first", "31")])
def test_a_context_that_differs_within_its_key_is_what_the_config_decides_and_counted(
    spark: SparkSession, tmp_path: Path, on_difference: str, age: str
) -> None:
    config = table_config(
        tmp_path,
        write_table(tmp_path / "log.parquet", differing_lines()),
        time="at",
        time_unit="s",
        earliest_time="1970-01-01",
        on_difference=on_difference,
    )
    manifest = run(spark, config)
    found = impressions_of(spark, config, manifest, "train")
    expected = [row_of(config, "age", age) - config.features.offsets["age"]]
    assert [row["age"] for row in found] == [expected, expected, expected, []]
    assert manifest.sources[0].notes == {"differing_age": 1}


def test_a_context_that_differs_is_refused_by_default_with_field_number_and_example(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "log.parquet", differing_lines())
    message = (
        r"feature age, of level context, differs within 1 of 2 context keys, e\.g\. u1: set its level to"
    )
    with pytest.raises(InputError, match=message):
        run(spark, table_config(tmp_path, path))


def test_an_expression_that_fails_on_a_value_is_told_in_one_line(spark: SparkSession, tmp_path: Path) -> None:
    features: dict[str, Any] = {"age": {"expr": "cast(age as int)"}, "item": "item"}
    lines = [{**line, "age": "young"} for line in differing_lines() if isinstance(line, dict)]
    config = table_config(tmp_path, write_table(tmp_path / "log.csv", lines), features=features)
    with pytest.raises(InputError, match=r"an expression fails: .*'young'.*cast\(age as int\)") as raised:
        run(spark, config)
    assert "\n" not in str(raised.value)


def test_a_carried_value_that_is_no_number_is_carried_as_null_and_told(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    features = {"age": "user", "item": "item", "price": "price"}
    lines: list[Line | str] = [
        {**line, "user": f"u{number}", "price": price}
        for number, (line, price) in enumerate(zip(random_lines(3), ("2.5", "dear", None), strict=True))
        if isinstance(line, dict)
    ]
    config = table_config(
        tmp_path,
        write_table(tmp_path / "log.parquet", lines),
        features=features,
        samples={"carry": {"price": "float"}},
    )
    with caplog.at_level("WARNING"):
        manifest = run(spark, config)
    assert [row["price"] for row in impressions_of(spark, config, manifest, "train")] == [2.5, None, None]
    assert "samples.carry.price: 1 lines have a value that is no float" in caplog.text


def test_too_many_bad_lines_end_the_run_with_one_of_them(spark: SparkSession, tmp_path: Path) -> None:
    lines = [line | {"click": "2"} for line in differing_lines() if isinstance(line, dict)]
    config = table_config(
        tmp_path, write_table(tmp_path / "log.csv", lines), logs={"max_reject_fraction": 0.5}
    )
    message = r"4 of 4 lines of table .*bad_label 4.*; bad_label is e\.g\. \{.*\"labels\.click\":\"2\""
    with pytest.raises(TooManyRejectsError, match=message):
        run(spark, config)


def test_a_split_of_the_config_without_lines_is_named(spark: SparkSession, tmp_path: Path) -> None:
    path = write_table(tmp_path / "log.parquet", differing_lines())
    table = {"time": "at", "time_unit": "s", "earliest_time": "1970-01-01", "on_difference": "first"}
    config = table_config(tmp_path, path, splits={"test_from": "2026-11-23"}, **table)
    with pytest.raises(InputError, match=r"no line of .*log\.parquet is of the test split"):
        run(spark, config)


@pytest.mark.parametrize(
    ("values", "empty"),
    [
        (None, "test"),
        ({"train": ["train"], "test": ["tst"]}, "test"),
        ({"train": ["train"], "validation": ["val"]}, "validation"),
        ({"train": ["train"]}, None),
        ({"train": ["train"], "test": []}, None),
    ],
)
def test_each_split_that_a_column_should_name_has_lines(
    spark: SparkSession, tmp_path: Path, values: dict[str, list[str]] | None, empty: str | None
) -> None:
    lines = [{**line, "part": "train"} for line in differing_lines()[2:] if isinstance(line, dict)]
    splits = {"column": "part", **({} if values is None else {"values": values})}
    config = table_config(tmp_path, write_table(tmp_path / "log.parquet", lines), splits=splits)
    if empty is None:
        assert {*run(spark, config).partitions} == {"split=train"}
        return
    message = (
        rf"is of the {empty} split and no reject: name in logs\.table\.splits\.values the splits that have"
    )
    with pytest.raises(InputError, match=message):
        run(spark, config)


def test_a_table_of_which_nothing_is_left_is_told_by_reason_and_key(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "log.parquet", differing_lines())
    table: dict[str, Any] = {"labels": {"click": "click", "conversion": "item"}, "where": "id < 3"}
    with pytest.raises(InputError) as raised:
        run(spark, table_config(tmp_path, path, **table))
    assert str(raised.value) == (
        f"no line of {path} becomes an impression: of 4 are bad_label 2, filtered 2: correct labels of "
        "logs.table, or the lines; nothing was replaced"
    )
    with pytest.raises(InputError, match=r"of 4 are filtered 4: correct where of logs\.table"):
        run(spark, table_config(tmp_path, path, where="id = 0"))
