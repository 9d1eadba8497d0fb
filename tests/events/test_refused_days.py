"""Days that are not built: a log has nothing of them, or nothing that could be of them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import UserError
from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from tests.events.small_logs import DAYS, at, config, event, impression, write_log

pytestmark = pytest.mark.spark

DAY = parse_day(DAYS[1], None)
IN_S = at(1, 12) // 1_000_000


def write_two_days(logs: Path) -> None:
    write_log(logs / "impressions", [impression(f"{day}", at(day, 1)) for day in range(2)])
    for name in ("clicks", "conversions"):
        write_log(logs / name, [event(at(day, 1.5)) for day in range(2)])


def remove(log: str) -> Callable[[Path], None]:
    return lambda logs: shutil.rmtree(logs / log / f"ds={DAYS[1]}")


def empty(log: str) -> Callable[[Path], None]:
    def write(logs: Path) -> None:
        (file,) = (logs / log / f"ds={DAYS[1]}").iterdir()
        pq.write_table(pq.read_table(file, partitioning=None)[:0], file)

    return write


def in_seconds(logs: Path) -> None:
    """A log without day folders, in seconds, which the config takes for milliseconds."""
    shutil.rmtree(logs / "clicks")
    (logs / "clicks").mkdir()
    rows = [{**event(0), "time": IN_S + number} for number in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), logs / "clicks/a.parquet")


def of_other_days(logs: Path) -> None:
    shutil.rmtree(logs / "clicks")
    (logs / "clicks").mkdir()
    pq.write_table(pa.Table.from_pylist([event(at(3, 1))] * 20), logs / "clicks/a.parquet")


WITHOUT_FOLDERS: dict[str, Any] = {"clicks": {"day_folders": None}}
ITEMS: dict[str, Any] = {"key": "item", "key_column": "item", "features": {"category": "kind"}}


@pytest.mark.parametrize(
    ("spoil", "sections", "said"),
    [
        (
            remove("impressions"),
            {},
            r"ds=2026-11-24 needs ds=2026-11-24 of \S+/impressions: no such folder, or",
        ),
        (
            remove("clicks"),
            {},
            r"needs ds=2026-11-24 of \S+/clicks: .* --allow-missing clicks; nothing was repl",
        ),
        (empty("clicks"), {}, r"needs ds=2026-11-24 of \S+/clicks: no such folder, or nothing in it: "),
        (
            in_seconds,
            {"clicks": {"day_folders": None, "time_unit": "ms"}},
            r"time seems to be in seconds, not in milliseconds: logs\.events\.clicks\.time_unit = s makes ",
        ),
        (of_other_days, WITHOUT_FOLDERS, r"has hardly anything of ds=2026-11-24, none of the 20 lines read"),
    ],
    ids=["no impressions", "no clicks", "empty clicks", "seconds", "other days"],
)
def test_a_day_of_which_a_log_has_nothing_is_not_built(
    spark: SparkSession,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    sections: dict[str, Any],
    said: str,
) -> None:
    write_two_days(tmp_path / "logs")
    spoil(tmp_path / "logs")
    small = config(tmp_path, **sections)
    small = small.model_copy(update={"logs": small.logs.model_copy(update={"max_reject_fraction": 0.5})})
    with pytest.raises(UserError, match=said) as told:
        build_days(spark, small, DAY)
    assert "\n" not in str(told.value)
    assert not list(Path(small.paths.dataset).rglob("*.parquet"))


def test_a_day_is_not_built_beside_an_empty_catalog(spark: SparkSession, tmp_path: Path) -> None:
    write_two_days(tmp_path / "logs")
    (tmp_path / "items.csv").write_text("item,kind\n")
    catalog = {"path": str(tmp_path / "items.csv"), "file_format": "csv", **ITEMS}
    without = {"features": {"age": "age", "item": "item_id"}}
    small = config(
        tmp_path,
        impressions=without,
        clicks={"features": {}},
        conversions={"features": {}},
        catalogs=[catalog],
    )
    with pytest.raises(
        UserError, match=r"items\.csv holds no lines, and no impression would find an attribute"
    ):
        build_days(spark, small, DAY)
