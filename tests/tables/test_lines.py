"""Lines of small tables: sources, ids, labels, splits, filters, and what is refused in one line."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import ConfigError, InputError
from tests.tables.small_tables import Line, column, lines_of, table_config, write_table

pytestmark = pytest.mark.spark

HOUR, DAY = 3600, 86_400
NAN = float("nan")
START = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp())
TASKS = {"click": {}, "conversion": {"given": "click"}}


def line(number: int, **columns: Any) -> Line:
    return {"id": str(number), "user": "u", "age": "30", "item": "7", "click": "0", "order": "0", **columns}


def test_sources_are_columns_paths_texts_put_together_constants_and_expressions(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines: list[Line | str] = [
        {"who": {"id": 7, "tags": ["a", "b"]}, "r": "r1", "p": 2, "w": {"x": 0.5}, "click": 1, "order": 0},
        {"who": {"id": None, "tags": []}, "r": "r1", "p": 3, "w": None, "click": 0, "order": 0},
    ]
    config = table_config(
        tmp_path,
        write_table(tmp_path / "log.json", lines),
        ["+user", "+tags", "next", "weights", "where"],
        impression_id={"concat": ["r", "p"], "separator": "/"},
        context_key="r",
        features={
            "user": "who.id",
            "tags": "who.tags",
            "next": {"expr": "cast(p as int) + 1"},
            "weights": "w",
            "where": {"constant": "web"},
        },
    )
    found = lines_of(spark, config)
    assert column(found, "impression_id") == ["r1/2", "r1/3"]
    assert column(found, "@user") == ["7", None]
    assert column(found, "@tags") == [["a", "b"], None]
    assert column(found, "@next") == ["3", "4"]
    assert column(found, "@weights") == [{"x": 0.5}, None]
    assert column(found, "@where") == ["web", "web"]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_ids_made_of_file_and_row_are_the_same_in_each_run_and_wherever_the_table_lies(
    spark: SparkSession, tmp_path: Path, suffix: str
) -> None:
    def ids(folder: Path) -> list[str]:
        for name, first in ((f"a,b/part-0.{suffix}", 0), (f"part-1.{suffix}", 100)):
            write_table(folder / name, [line(number, n=str(number)) for number in range(first, first + 50)])
        config = table_config(
            tmp_path,
            str(folder),
            impression_id=None,
            file_format=suffix,
            features={"age": "age", "item": "n"},
        )
        return sorted(f"{row['impression_id']}={row['@item']}" for row in lines_of(spark, config))

    expected = [f"a%2Cb/part-0.{suffix}:{row + 1}={row}" for row in range(50)]
    expected += [f"part-1.{suffix}:{row + 1}={row + 100}" for row in range(50)]
    assert ids(tmp_path / "here") == sorted(expected)
    before = spark.conf.get("spark.sql.files.maxPartitionBytes")
    spark.conf.set("spark.sql.files.maxPartitionBytes", "500b")
    try:
        # Files are read in many blocks, several by one task.
        assert ids(tmp_path / "there") == sorted(expected)
    finally:
        assert before is not None
        spark.conf.set("spark.sql.files.maxPartitionBytes", before)


def test_labels_are_flags_of_any_type_and_others_are_no_labels(spark: SparkSession, tmp_path: Path) -> None:
    flags = ["0", "1", "1.0", "true", "False", None, "2", "x"]
    lines = [line(number, click=flag) for number, flag in enumerate(flags)]
    config = table_config(tmp_path, write_table(tmp_path / "log.parquet", lines))
    found = lines_of(spark, config)
    assert column(found, "click") == ["0", "1", "1", "1", "0", "", "?", "?"]
    assert column(found, "reason") == [None] * 6 + ["bad_label"] * 2
    assert '"labels.click":"2"' in found[6]["raw"]


@pytest.mark.parametrize(
    ("immature", "labels", "notes"),
    [
        ("drop", [("1", "1"), ("1", "0"), ("0", "0"), ("1", "0"), ("0", "0")], [2, 3, 4]),
        ("keep", [("1", "1"), ("1", "0"), ("0", "0"), ("1", "0"), ("0", "0")], [4]),
        ("unknown", [("1", "1"), ("1", "0"), ("", ""), ("1", ""), ("", "")], [4]),
    ],
)
def test_a_label_by_time_is_in_its_window_and_known_as_of_then(
    spark: SparkSession, tmp_path: Path, immature: str, labels: list[tuple[str, str]], notes: list[int]
) -> None:
    # As of hour 4: a click within the hour, an order within two hours of the click.
    shown = [0, 0, 3.5, 3, 5]
    clicked = [1, 1, None, 3.5, None]
    ordered = [3, 3.001, None, 4.5, None]
    lines = [
        line(
            number,
            at=START + at * HOUR,
            clicked=None if click is None else START + click * HOUR,
            ordered=None if order is None else START + order * HOUR,
        )
        for number, (at, click, order) in enumerate(zip(shown, clicked, ordered, strict=True))
    ]
    config = table_config(
        tmp_path,
        write_table(tmp_path / "log.parquet", lines),
        time="at",
        time_unit="s",
        labels={
            "click": {"time": "clicked", "window_s": HOUR},
            "conversion": {"time": "ordered", "window_s": 2 * HOUR},
        },
        as_of="2026-11-23T04:00:00",
        immature=immature,
    )
    found = lines_of(spark, config)
    assert [(row["click"], row["conversion"]) for row in found] == labels
    assert [number for number, note in enumerate(column(found, "note")) if note] == notes
    assert found[4]["note"] == "after_as_of"


@pytest.mark.parametrize(
    ("suffix", "texts"),
    [("json", ["2026-11-23 01:00:00", "", " ", None, "soon"]), ("parquet", [START, NAN, None])],
)
def test_nothing_where_a_label_has_its_time_is_no_event(
    spark: SparkSession, tmp_path: Path, suffix: str, texts: list[Any]
) -> None:
    lines: list[Line | str] = [line(number, clicked=text) for number, text in enumerate(texts)]
    config = table_config(
        tmp_path,
        write_table(tmp_path / f"log.{suffix}", lines),
        time_unit="iso" if suffix == "json" else "s",
        labels={"click": {"time": "clicked"}, "conversion": "order"},
    )
    found = lines_of(spark, config)
    expected = {"soon": "?"} | dict.fromkeys([texts[0]], "1")
    assert column(found, "click") == [expected.get(text, "0") for text in texts]


def test_a_line_that_arrives_after_as_of_is_left_out(spark: SparkSession, tmp_path: Path) -> None:
    arrived = [1, 4, 4.001, 6, None, -1]
    lines = [
        line(number, at=START, order="0", seen=None if hour is None else START + hour * HOUR)
        for number, hour in enumerate(arrived)
    ]
    times = {"time": "at", "time_unit": "s", "ingest_time": "seen"}
    path = write_table(tmp_path / "log.parquet", lines)
    found = lines_of(spark, table_config(tmp_path, path, **times, as_of="2026-11-23T04:00:00"))
    assert column(found, "note") == [None, None, "after_as_of", "after_as_of", None, None]
    assert column(found, "reason") == [None, None, None, None, "unparsable_time", None]
    # Nothing that is scored comes too late.
    scored = lines_of(spark, table_config(tmp_path, path, **times, as_of="2026-11-22"), is_scored=True)
    assert column(scored, "note") == [None] * 6
    with pytest.raises(ValidationError, match="ingest_time tells which lines were known by as_of: set as_of"):
        table_config(tmp_path, path, **times)


def test_splits_go_by_a_column_by_day_or_by_a_share_of_the_keys(spark: SparkSession, tmp_path: Path) -> None:
    lines = [
        line(day, at=START + day * DAY, part=part, user=f"u{day}")
        for day, part in enumerate(["a", "b", "c", None, "a"])
    ]
    path = write_table(tmp_path / "log.parquet", lines)

    def splits(**rule: Any) -> tuple[list[Any], list[Any]]:
        found = lines_of(spark, table_config(tmp_path, path, time="at", time_unit="s", splits=rule))
        return column(found, "split"), column(found, "reason")

    of_values = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    assert splits(column="part", values=of_values) == (
        ["train", "validation", "test", None, "train"],
        [None, None, None, "unknown_split", None],
    )
    by_day = splits(validation_from="2026-11-25", test_from="2026-11-26")[0]
    assert by_day == ["train", "train", "validation", "test", "test"]
    share = splits(test_fraction=0.5)[0]
    assert {*share} == {"train", "test"}
    assert share == splits(test_fraction=0.5)[0]


def test_day_folders_tell_the_split_and_are_a_column(spark: SparkSession, tmp_path: Path) -> None:
    for number, day in enumerate(("20261123", "20261124")):
        write_table(tmp_path / "log" / f"dt={day}" / "part.csv", [line(number)])
    config = table_config(
        tmp_path,
        str(tmp_path / "log"),
        file_format="csv",
        day_folders="dt",
        splits={"test_from": "2026-11-24"},
        features={"age": "dt", "item": "item"},
    )
    found = lines_of(spark, config)
    assert column(found, "split") == ["train", "test"]
    assert column(found, "@age") == ["2026-11-23", "2026-11-24"]


def test_a_list_becomes_a_line_per_item_with_its_position(spark: SparkSession, tmp_path: Path) -> None:
    lines: list[Line | str] = [
        {"r": "r1", "shown": [{"item": 7, "click": 1}, {"item": 8, "click": 0}]},
        {"r": "r2", "shown": []},
        {"r": "r3", "shown": None},
        "{broken",
    ]
    config = table_config(
        tmp_path,
        write_table(tmp_path / "log.json", lines),
        ["+request", "item", "place"],
        explode="shown",
        impression_id={"concat": ["r", "shown_position"]},
        context_key="r",
        labels={"click": "shown.click", "conversion": {"constant": 0}},
        features={"request": "r", "item": "shown.item", "place": "shown_position"},
    )
    found = lines_of(spark, config)
    shown = [row for row in found if row["reason"] is None and row["note"] is None]
    assert column(shown, "impression_id") == ["r1-0", "r1-1"]
    assert column(shown, "@item") == ["7", "8"]
    assert column(shown, "@place") == ["0", "1"]
    assert column(shown, "click") == ["1", "0"]
    assert sorted(filter(None, column(found, "note"))) == ["without_items", "without_items"]
    assert list(filter(None, column(found, "reason"))) == ["malformed_line"]
    without_id = config.logs.table.model_copy(update={"impression_id": None})  # type: ignore[union-attr]
    again = config.model_copy(update={"logs": config.logs.model_copy(update={"table": without_id})})
    ids = [row["impression_id"] for row in lines_of(spark, again) if row["@item"]]
    assert ids == ["log.json:1:0", "log.json:1:1"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.tuples(st.sampled_from([None, "", "7", "x"]), st.sampled_from([None, "ok", "cancelled", ""])),
        min_size=1,
        max_size=8,
    )
)
def test_each_line_is_accepted_rejected_or_filtered_as_a_loop_says(
    spark: SparkSession, tmp_path: Path, lines: list[tuple[str | None, str | None]]
) -> None:
    written = [
        {**line(number), "user": user, "status": status} for number, (user, status) in enumerate(lines)
    ]
    path = tmp_path / "log.json"
    write_table(path, written)
    config = table_config(tmp_path, str(path), where="status not in ('cancelled', 'refunded')")
    expected = [
        # SQL: null is neither in a list nor not in it.
        (None, "filtered")
        if status in (None, "cancelled")
        else ("missing_id", None)
        if user in (None, "")
        else (None, None)
        for user, status in lines
    ]
    found = lines_of(spark, config)
    assert [(row["reason"], row["note"]) for row in found] == expected


def test_a_broken_line_is_a_reject_with_its_text(spark: SparkSession, tmp_path: Path) -> None:
    broken = "2,u,30,7,0,0,too,many"
    config = table_config(tmp_path, write_table(tmp_path / "log.csv", [line(1), broken, line(3, id="")]))
    found = [(row["reason"], row["raw"]) for row in lines_of(spark, config) if row["reason"]]
    assert sorted(found)[0] == ("malformed_line", broken)
    assert sorted(found)[1][0] == "missing_id"
    assert '"context_key":"u"' in sorted(found)[1][1]


def test_tab_separated_files_without_names_are_read_by_those_of_the_config(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "log.tsv").write_text("1\tu\t30\t7\t1\t0\n2\tu\t30\t8\t0\t0\n")
    names = ["id", "user", "age", "item", "click", "order"]
    config = table_config(tmp_path, str(tmp_path / "log.tsv"), delimiter="\t", column_names=names)
    assert column(lines_of(spark, config), "@item") == ["7", "8"]


def test_labels_may_be_missing_where_a_table_is_scored(spark: SparkSession, tmp_path: Path) -> None:
    lines = [{"id": "1", "user": "u", "age": "3", "item": "7", "click": "1"}]
    config = table_config(tmp_path, write_table(tmp_path / "log.csv", lines))
    (found,) = lines_of(spark, config, is_scored=True)
    assert (found["click"], found["conversion"], found["split"]) == ("1", "", "raw")
    with pytest.raises(ConfigError, match=r"logs\.table\.labels\.conversion = 'order' is no column"):
        lines_of(spark, config)


@pytest.mark.parametrize(
    ("suffix", "where"),
    [
        ("csv", "click = 1 or bought = '-1'"),
        ("csv", "shop = 'x' and coalesce(BOUGHT, '') <> ''"),
        ("json", "of.bought is not null"),
    ],
)
def test_where_leaves_nothing_out_of_what_is_scored_if_it_asks_for_labels_that_are_not_there(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, where: str
) -> None:
    lines: list[Line | str] = [
        {"id": str(number), "user": "u", "age": "3", "item": "7", "shop": "y", "of": {"day": "1"}}
        for number in range(2)
    ]
    bought = "of.bought" if suffix == "json" else "bought"
    labels = {"click": "click", "conversion": {"expr": f"if({bought} is null, 0, 1)"}}
    path = write_table(tmp_path / f"log.{suffix}", lines)
    found = lines_of(spark, table_config(tmp_path, path, labels=labels, where=where), is_scored=True)
    assert column(found, "note") == [None, None]
    assert "logs.table.where names" in caplog.text
    assert "no line is left out by it" in caplog.text
    other = table_config(tmp_path, path, labels=labels, where="status is null")
    with pytest.raises(ConfigError, match=r"logs\.table\.where: expr 'status is null' fails"):
        lines_of(spark, other, is_scored=True)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"context_key": "usr"}, r"logs\.table\.context_key = 'usr' is no column of .*did you mean user\?"),
        ({"context_key": "u.x"}, r"logs\.table\.context_key = 'u\.x' is no column"),
        ({"context_key": "user.x"}, r"'user\.x': user is string in .*which has no x"),
        ({"where": "staus = 1"}, r"logs\.table\.where: expr 'staus = 1' fails on .*staus"),
        ({"where": "item +"}, r"logs\.table\.where: expr 'item \+' fails on .*PARSE_SYNTAX_ERROR"),
        (
            {"where": "item"},
            r"logs\.table\.where = 'item' is no condition, it gives string: write what is true of",
        ),
        ({"where": "rand() < 0.5"}, r"expr 'rand\(\) < 0\.5' gives other values in each run"),
        ({"impression_id": {"expr": "max(id)"}}, r"expr 'max\(id\)' .*"),
        ({"impression_id": {"expr": "split(id, '-')"}}, r"is array<string> in .*must be one value"),
        (
            {"impression_id": {"concat": ["user", {"expr": "split(id,\n '-')"}]}},
            r'and \{expr: "split\(id, \'-\'\)"\} is array<string> in .*: name a path into it',
        ),
        ({"impression_id": {"expr": "split(id,\n'-')"}}, r"is array<string> in .*must be one value"),
        ({"where": "staus =\n 1"}, r"logs\.table\.where: expr 'staus = 1' fails on .*staus"),
        ({"explode": "item"}, r"logs\.table\.explode = 'item' is string in .*must be a list"),
    ],
)
def test_what_a_source_can_not_be_is_told_in_one_line(
    spark: SparkSession, tmp_path: Path, table: dict[str, Any], message: str
) -> None:
    config = table_config(tmp_path, write_table(tmp_path / "log.csv", [line(1)]), **table)
    with pytest.raises(ConfigError, match=message) as raised:
        lines_of(spark, config)
    assert "\n" not in str(raised.value)


def test_a_table_that_is_not_there_is_named(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file or folder at .*nowhere\.csv"):
        lines_of(spark, table_config(tmp_path, str(tmp_path / "nowhere.csv")))
