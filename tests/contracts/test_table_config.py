"""The config of a table: shorthands, what is refused with one line, and that it survives being stored."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.labels import TableLabel
from tests.tables.small_tables import table_config


def test_a_source_is_a_column_by_its_name_alone_and_a_label_a_flag() -> None:
    assert ColumnSource.model_validate("user.id") == ColumnSource(column="user.id")
    assert TableLabel.model_validate("is_click").flag == ColumnSource(column="is_click")
    assert TableLabel.model_validate({"expr": "a = 1"}).flag == ColumnSource(expr="a = 1")
    both = ColumnSource.model_validate({"concat": ["a", {"constant": 7}]})
    assert list(both.texts) == ["a"]
    assert str(both) == "{concat: [a, {constant: 7}]}"


def test_a_config_that_was_stored_is_read_back(tmp_path: Path) -> None:
    config = table_config(
        tmp_path,
        "log.csv",
        time="at",
        time_format="yyyyMMdd HH:mm:ss",
        time_zone="Asia/Shanghai",
        as_of="2026-11-24T06:00:00+08:00",
        labels={"click": "click", "conversion": {"time": "ordered", "window_s": 60}},
        splits={"validation_from": "2026-11-22", "test_from": "2026-11-23"},
    )
    assert Config.model_validate(config.model_dump(mode="json")) == config
    table = config.logs.table
    assert table is not None
    # 22:00 UTC of the day before.
    assert table.as_of_us == 1_795_471_200_000_000


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"features": {"age": {"column": "a", "expr": "b"}}}, "this one has column and expr"),
        ({"features": {"age": {}}}, "this one has none"),
        ({"features": {"age": "age"}}, r"features\.fields item come from nowhere"),
        ({"labels": {"click": "click"}}, "tasks conversion have no label"),
        ({"labels": {"click": "c", "conversion": "d", "like": "e"}}, "labels like are no tasks"),
        ({"labels": {"click": {"flag": "a", "time": "b"}}}, "a label has either flag or time"),
        ({"labels": {"click": {"flag": "a", "window_s": 5}}}, "a flag has none"),
        (
            {"labels": {"click": "c", "conversion": {"time": "t", "window_s": 5}}},
            "needs the impression's time",
        ),
        ({"as_of": "2026-11-24"}, "as_of needs the impression's time"),
        ({"as_of": "soon", "time": "at"}, "it is no time: write it like 2026-11-24T06:00:00"),
        ({"on_difference": "first"}, "on_difference: first needs the impression's time"),
        ({"splits": {"test_from": "2026-11-24"}}, "set time or day_folders"),
        ({"splits": {"test_fraction": 0.5, "column": "part"}}, "test_fraction and column are two rules"),
        (
            {"splits": {"validation_from": "2026-11-24", "test_from": "2026-11-24"}, "time": "at"},
            "must be before test_from",
        ),
        ({"splits": {"column": "p", "values": {"train": ["a"], "test": ["a"]}}}, "values a name two splits"),
        ({"samples": {"carry": {"price": "float"}}}, "carry price come from nowhere"),
    ],
)
def test_what_a_table_can_not_be_is_refused(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        table_config(tmp_path, "log.csv", **table)


RAW = {"skeleton": "a", "common_features": "b"}
SAME = {split: [split] for split in ("train", "validation", "test")}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"file_format": "json", "column_names": ["a"]}, "column_names has no effect where file_format is"),
        (
            {"file_format": "parquet", "delimiter": ";"},
            "delimiter has no effect where file_format is parquet: set file_format: csv, or leave delimiter",
        ),
        ({"immature": "keep"}, "immature has no effect without as_of: set as_of, or leave immature out"),
        (
            {"context_key": None, "on_difference": "most_frequent"},
            "on_difference has no effect without context_key: set",
        ),
        ({"splits": {"values": {"train": ["a"]}}}, "values has no effect without column: set column"),
        (
            {"features": {"age": {"column": "age", "separator": "/"}, "item": "item"}},
            "separator has no effect without concat",
        ),
        ({"null_time": "skip"}, "null_time has no effect without time: set time"),
        (
            {"logs": {"format": "aliccp", "splits": {"train": RAW}}},
            "where format is aliccp: set format: table",
        ),
        (
            {"score": {"raw": RAW}},
            r"score\.raw has no effect where logs\.format is table: leave it out, or set score\.table",
        ),
    ],
)
def test_what_would_be_ignored_is_refused(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        table_config(tmp_path, "log.csv", **table)


def test_what_is_its_default_is_not_refused_for_what_it_needs(tmp_path: Path) -> None:
    ignored: dict[str, Any] = {
        "file_format": "json",
        "delimiter": ",",
        "immature": "drop",
        "splits": {"values": SAME},
    }
    assert table_config(tmp_path, "log.json", **ignored).logs.table is not None
