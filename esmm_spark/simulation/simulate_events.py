"""Simulates event logs of several days and their truth from a preset, a seed and a number of groups.

<output>/
    _SUCCESS
    simulation.json                       preset, seed, days, counts
    impressions/ds=2026-11-20/*.parquet   event_time (ms), impression_id, request_id, user_id, item_id,
                                          position, profile_121 ...
    clicks/ds=.../*.parquet               event_time, click_id, impression_id, user_id, item_id
    conversions/ds=.../*.json             event_time, conversion_id, user_id, item_id
    repurchases/ds=.../*.json             event_time, repurchase_id, user_id, item_id; only if asked for
    items/*.parquet                       item_id, valid_from, category, shop, brand, intentions
    truth.parquet/*.parquet               impression_id, pctr, pcvr, conversion_if_clicked; with
                                          repurchases p_repurchase, repurchase_if_conversion
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.schemas.layout import DAY_PREFIX, ITEMS, SIMULATION_NAME, TRUTH
from esmm_spark.files import filesystems, storage
from esmm_spark.files.replacing import Replacement, replacing, require_own_folder
from esmm_spark.simulation.catalogue import Catalogue
from esmm_spark.simulation.event_parts import DAY_S, EventPart, draw_event_part, item_table, plan_event_parts
from esmm_spark.simulation.presets import preset_named
from esmm_spark.simulation.simulate import MAX_GROUPS, MAX_SEED, OUTPUT
from esmm_spark.simulation.summaries import require_records, write_summary
from esmm_spark.simulation.world import World
from esmm_spark.spark.failures import user_errors
from esmm_spark.spark.tasks import Attempt, TaskReport, run_tasks

MAX_DAYS = 366
LOGS = ("impressions", "clicks", "conversions")
REPURCHASES = "repurchases"
_JSON_LOGS = ("conversions", REPURCHASES)
_ITEMS_PER_FILE = 1_000_000
# What a simulation holds whose marker lists nothing, see `replacing.require_own_folder`.
_OURS = (
    SIMULATION_NAME,
    *(f"{log}/{DAY_PREFIX}*/part-*" for log in (*LOGS, REPURCHASES)),
    f"{ITEMS}/part-*",
    f"{TRUTH}/part-*",
)


@dataclass(frozen=True)
class EventSummary:
    """What a simulation wrote."""

    preset: str
    seed: int
    first_day: str
    num_days: int
    impressions: int
    click_lines: int
    conversion_lines: int
    repurchase_lines: int | None = None

    def __str__(self) -> str:
        repurchases = "" if self.repurchase_lines is None else f"{self.repurchase_lines:,} of repurchases, "
        return (
            f"{self.num_days} days from {self.first_day}: {self.impressions:,} impressions, "
            f"{self.click_lines:,} lines of clicks (those before the first day too), "
            f"{self.conversion_lines:,} of conversions, {repurchases}preset {self.preset}, seed {self.seed}"
        )


class Days(NamedTuple):
    """The days of impressions: the first one, and how many."""

    first: date
    number: int


class EventPartCounts(TaskReport):
    """What one part holds: its impressions, and the lines of each log, in which impressions may repeat."""

    impressions: int
    impression_lines: int
    clicks: int
    conversions: int
    repurchases: int = 0


def check_event_arguments(
    output: str, num_groups: int, seed: int, preset: str, num_days: int, ours: Sequence[str] = _OURS
) -> None:
    """Raises ConfigError for a value out of range, InputError where `output` holds more than `ours`."""
    preset_named(preset)
    if not num_days <= num_groups <= MAX_GROUPS:
        raise ConfigError(
            f"--num-groups {num_groups}: must be from {num_days}, a group a day, to {MAX_GROUPS}"
        )
    if not 1 <= num_days <= MAX_DAYS:
        raise ConfigError(f"--num-days {num_days}: must be from 1 to {MAX_DAYS}")
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"--seed {seed}: must be from 0 to {MAX_SEED}")
    require_own_folder(output, OUTPUT, ours)


def simulate_events(
    spark: SparkSession,
    output: str,
    num_groups: int,
    seed: int,
    preset: str,
    days: Days,
    with_repurchases: bool = False,
) -> EventSummary:
    """Writes simulated event logs and replaces what stood at `output`; what stood there is whole until then.

    Args:
        spark: the session.
        output: the folder.
        num_groups: contexts of all days together.
        seed: of everything.
        preset: a name in `presets.SIMULATION_PRESETS`.
        days: of the impressions; clicks go back ten days further.
        with_repurchases: whether there is a log of repurchases after conversions, too.

    Raises:
        ConfigError, InputError: as `check_event_arguments`.
        TargetBusyError: another run writes the output.
        CountMismatchError: a task's report is missing, or a file isn't what was drawn.
    """
    check_event_arguments(output, num_groups, seed, preset, days.number)
    with replacing(output, OUTPUT, _OURS) as new, user_errors(spark, "simulate again", f"{OUTPUT} {output}"):
        summary = _write(spark, num_groups, seed, preset, days, with_repurchases, new)
    return summary


def _write(
    spark: SparkSession,
    num_groups: int,
    seed: int,
    preset: str,
    days: Days,
    with_repurchases: bool,
    new: Replacement,
) -> EventSummary:
    """Writes all files; returns what is in them, once their lines are counted."""
    chosen, staging = preset_named(preset), new.folder
    world, parts = World.calibrated(chosen, seed), plan_event_parts(num_groups, days.number)

    logs = (*LOGS, REPURCHASES) if with_repurchases else LOGS

    def write(attempt: Attempt) -> EventPartCounts:
        part, catalogue = parts[attempt.task], Catalogue(chosen, seed)
        counts = _write_part(world, catalogue, seed, part, days, logs, staging)
        return EventPartCounts(task=attempt.task, **counts)

    parts_written = run_tasks(spark, "simulate events", len(parts), write, EventPartCounts)
    num_items = chosen.num_shops * chosen.items_per_shop
    _write_items(Catalogue(chosen, seed), num_items, days.first, staging)
    summary = EventSummary(
        preset=preset,
        seed=seed,
        first_day=days.first.isoformat(),
        num_days=days.number,
        impressions=sum(part.impressions for part in parts_written),
        click_lines=sum(part.clicks for part in parts_written),
        conversion_lines=sum(part.conversions for part in parts_written),
        repurchase_lines=sum(part.repurchases for part in parts_written) if with_repurchases else None,
    )
    counted = {
        "impressions": sum(part.impression_lines for part in parts_written),
        "clicks": summary.click_lines,
        TRUTH: summary.impressions,
        ITEMS: num_items,
    }
    require_records(staging, counted)
    write_summary(staging, asdict(summary))
    return summary


def _write_part(
    world: World,
    catalogue: Catalogue,
    seed: int,
    part: EventPart,
    days: Days,
    logs: Sequence[str],
    folder: str,
) -> dict[str, int]:
    """Writes one part's files; returns its impressions, and its lines of all logs."""
    tables = draw_event_part(
        world, catalogue, seed, part, start_of_day_s(days.first), days.number, REPURCHASES in logs
    )
    counts = dict.fromkeys(logs, 0)
    for (log, day), table in tables.logs.items():
        name = f"{log}/{DAY_PREFIX}{days.first + timedelta(days=day)}/part-{part.number:05d}"
        if log in _JSON_LOGS:
            lines = "".join(json.dumps(line) + "\n" for line in table.to_pylist())
            storage.write_text(storage.join(folder, f"{name}.json"), lines)
        else:
            write_parquet(table, storage.join(folder, f"{name}.parquet"))
        counts[log] += table.num_rows
    write_parquet(tables.truth, storage.join(folder, TRUTH, f"part-{part.number:05d}.parquet"))
    return {**counts, "impression_lines": counts["impressions"], "impressions": tables.truth.num_rows}


def _write_items(catalogue: Catalogue, num_items: int, first_day: date, folder: str) -> None:
    # As of a month before: the past clicks are of these items, too.
    valid_from_ms = (start_of_day_s(first_day) - 30 * DAY_S) * 1000
    for number, start in enumerate(range(0, num_items, _ITEMS_PER_FILE)):
        items = np.arange(start, min(start + _ITEMS_PER_FILE, num_items))
        path = storage.join(folder, ITEMS, f"part-{number:05d}.parquet")
        write_parquet(item_table(catalogue, items, valid_from_ms), path)


def write_parquet(table: pa.Table, uri: str) -> None:
    """Writes a table to a file, in a folder that is made if need be."""
    filesystem, path = filesystems.filesystem_of(uri)
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    pq.write_table(table, path, filesystem=filesystem)


def start_of_day_s(day: date) -> int:
    """Returns the first second of a UTC day, since 1970."""
    return int(datetime.combine(day, time(), UTC).timestamp())
