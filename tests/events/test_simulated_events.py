"""What simulated event logs are like."""

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.schemas.task_columns import truth_columns
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.simulation.catalogue import Catalogue
from esmm_spark.simulation.event_parts import (
    BOT,
    BOT_DAY,
    DAY_S,
    HISTORY_DAYS,
    EventTables,
    draw_event_part,
    item_table,
    plan_event_parts,
)
from esmm_spark.simulation.presets import DEMO
from esmm_spark.simulation.repurchases import draw_repurchases, repurchase_probabilities
from esmm_spark.simulation.simulate_events import Days, check_event_arguments, simulate_events
from esmm_spark.simulation.world import World
from tests.events.small_logs import FIRST_DAY_S

NUM_DAYS = 3
FUNNEL = Tasks.model_validate(
    {"click": {}, "conversion": {"given": "click"}, "repurchase": {"given": "conversion"}}
)


@pytest.fixture(scope="module")
def parts() -> list[EventTables]:
    world, catalogue = World.calibrated(DEMO, 1), Catalogue(DEMO, 1)
    plan = plan_event_parts(600, NUM_DAYS)
    return [draw_event_part(world, catalogue, 1, part, FIRST_DAY_S, NUM_DAYS) for part in plan]


def log_of(parts: list[EventTables], name: str) -> pa.Table:
    return pa.concat_tables([table for part in parts for (log, _), table in part.logs.items() if log == name])


def test_a_plan_deals_all_groups_to_the_days() -> None:
    plan = plan_event_parts(10_001, 4, blocks_per_part=2)
    of_day = [sum(sum(part.groups) for part in plan if part.day == day) for day in range(4)]
    assert of_day == [2501, 2500, 2500, 2500]
    blocks = [part.first_block + number for part in plan for number in range(len(part.groups))]
    assert blocks == list(range(len(blocks)))


@pytest.mark.slow
def test_a_part_is_the_same_whenever_it_is_drawn(parts: list[EventTables]) -> None:
    world, catalogue = World.calibrated(DEMO, 1), Catalogue(DEMO, 1)
    part = plan_event_parts(600, NUM_DAYS)[1]
    again = draw_event_part(world, catalogue, 1, part, FIRST_DAY_S, NUM_DAYS)
    assert again.truth.equals(parts[1].truth)
    assert {key: table.to_pydict() for key, table in again.logs.items()} == {
        key: table.to_pydict() for key, table in parts[1].logs.items()
    }


def test_the_logs_hold_what_real_logs_hold(parts: list[EventTables]) -> None:
    impressions, clicks = log_of(parts, "impressions"), log_of(parts, "clicks")
    ids = impressions["impression_id"].to_pylist()
    truth = pa.concat_tables([part.truth for part in parts])
    assert sorted(set(ids)) == sorted(truth["impression_id"].to_pylist())
    assert 0.005 < len(ids) / len(set(ids)) - 1 < 0.02, "lines twice"
    day = (impressions["event_time"].to_numpy() // 1000 - FIRST_DAY_S) // DAY_S
    users = impressions["user_id"].to_numpy(zero_copy_only=False)
    assert set(np.unique(day[users == BOT])) == {BOT_DAY}
    assert abs(np.mean(users[day == BOT_DAY] == BOT) - 0.2) < 0.07
    folders = {
        log: sorted(d for part in parts for name, d in part.logs if name == log) for log in ("clicks",)
    }
    assert folders["clicks"][0] == -HISTORY_DAYS
    assert folders["clicks"][-1] == NUM_DAYS - 1
    late = sum(
        int(np.sum((table["event_time"].to_numpy() // 1000 - FIRST_DAY_S) // DAY_S < folder))
        for part in parts
        for (_, folder), table in part.logs.items()
    )
    assert late > 0, "late lines"
    times = parts[0].logs["impressions", 0]["event_time"].to_numpy()
    assert np.any(np.diff(times) < 0), "out of order"
    in_days = np.flatnonzero(clicks["event_time"].to_numpy() >= FIRST_DAY_S * 1000)
    orphans = set(clicks["impression_id"].take(pa.array(in_days)).to_pylist()) - set(ids)
    assert 0 < len(orphans) < 0.1 * len(in_days), "orphan clicks"


def test_the_join_gives_the_labels_that_were_drawn(parts: list[EventTables]) -> None:

    (part,) = parts[:1]
    shown = log_of([part], "impressions").to_pylist()
    impressions = {row["impression_id"]: row for row in shown}
    clicked = set(log_of([part], "clicks")["impression_id"].to_pylist()) & set(impressions)
    conversions = {
        (row["user_id"], row["item_id"])
        for row in log_of([part], "conversions").to_pylist()
        if not row["user_id"].startswith("nobody")
    }
    would = {row["impression_id"]: row["conversion_if_clicked"] for row in part.truth.to_pylist()}
    drawn = {
        (impressions[name]["user_id"], impressions[name]["item_id"]) for name in clicked if would[name] == 1
    }
    assert drawn == conversions
    assert 0 < len(conversions) < len(clicked)


def test_every_item_that_is_shown_is_in_the_catalog(parts: list[EventTables]) -> None:
    table = item_table(Catalogue(DEMO, 1), np.arange(DEMO.num_shops * DEMO.items_per_shop), 5)
    shown = set(log_of(parts, "impressions")["item_id"].to_pylist())
    assert shown <= set(table["item_id"].to_pylist())
    assert set(table["valid_from"].to_pylist()) == {5}
    assert 0.2 < table["brand"].null_count / table.num_rows < 0.4
    assert min(len(values) for values in table["intentions"].to_pylist()) >= 1


def test_wrong_arguments_are_told(tmp_path: Path) -> None:
    output = str(tmp_path / "raw")
    for arguments, expected in (
        ((output, 3, 1, "demo", 4), "--num-groups 3: must be from 4"),
        ((output, 9, 1, "demo", 0), "--num-days 0: must be from 1"),
        ((output, 9, -1, "demo", 4), "--seed -1"),
        ((output, 9, 1, "huge", 4), "unknown preset"),
    ):
        with pytest.raises(ConfigError, match=expected):
            check_event_arguments(*arguments)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"holds thesis.tex, which would be deleted"):
        check_event_arguments(output, 9, 1, "demo", 4)


@pytest.mark.slow
def test_repurchases_follow_conversions_and_change_no_other_log(parts: list[EventTables]) -> None:
    world, catalogue = World.calibrated(DEMO, 1), Catalogue(DEMO, 1)
    plan = plan_event_parts(600, NUM_DAYS)
    with_them = [draw_event_part(world, catalogue, 1, part, FIRST_DAY_S, NUM_DAYS, True) for part in plan]
    for before, after in zip(parts, with_them, strict=True):
        assert before.truth.equals(after.truth.select(before.truth.column_names))
        known = [column.name for column in truth_columns(FUNNEL)]
        assert set(known) == set(after.truth.column_names)
        assert all(after.logs[key].equals(table) for key, table in before.logs.items())
    repurchases = log_of(with_them, "repurchases").to_pylist()
    conversions = log_of(with_them, "conversions").to_pylist()
    times: dict[tuple[str, str], list[int]] = {}
    for row in conversions:
        times.setdefault((row["user_id"], row["item_id"]), []).append(row["event_time"])
    for row in repurchases:
        of_pair = times[row["user_id"], row["item_id"]]
        assert any(0 <= row["event_time"] - time <= 2 * DAY_S * 1000 for time in of_pair), row
    rate = len({row["repurchase_id"] for row in repurchases}) / len(
        {row["conversion_id"] for row in conversions if row["conversion_id"].startswith("v")}
    )
    assert 0.2 < rate < 0.6


@pytest.mark.slow
def test_who_converts_more_buys_again_more() -> None:
    block = World.calibrated(DEMO, 1).draw(3, 0)
    probability = repurchase_probabilities(block, 1)
    correlation = np.corrcoef(probability, block.labels.pcvr)[0, 1]
    assert 0.2 < correlation < 0.95
    happened = draw_repurchases(block, 1, 0).if_converted
    assert abs(happened.mean() - probability.mean()) < 0.02


@pytest.mark.spark
def test_spark_writes_all_parts_and_counts_them(spark: SparkSession, tmp_path: Path) -> None:
    output = str(tmp_path / "raw")
    summary = simulate_events(spark, output, 60, 3, "demo", Days(date(2026, 11, 20), 2))
    truth = pq.read_table(tmp_path / "raw" / "truth.parquet")
    assert truth.num_rows == summary.impressions
    assert (tmp_path / "raw" / "_SUCCESS").exists()
    days = {path.name for path in (tmp_path / "raw" / "impressions").iterdir()}
    assert days == {"ds=2026-11-20", "ds=2026-11-21"}
    simulate_events(spark, output, 60, 3, "demo", Days(date(2026, 11, 20), 2))
    assert pq.read_table(tmp_path / "raw" / "truth.parquet").equals(truth)
    summary = simulate_events(spark, output, 60, 3, "demo", Days(date(2026, 11, 20), 2), True)
    written = (tmp_path / "raw" / "repurchases").glob("ds=*/part-*.json")
    assert sum(len(path.read_text().splitlines()) for path in written) == summary.repurchase_lines
