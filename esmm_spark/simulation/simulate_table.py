"""Simulates the one flat table that a company may have: a line per impression, labels and all.

<output>/
    _SUCCESS
    simulation.json              preset, seed, days, counts
    log/part-*.parquet           TABLE_COLUMNS

What real tables have is in it, too: columns that are known only after the click or the order, one that is the
same on every line, gaps, a number, a list, values with counts.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from esmm_spark.contracts.schemas.layout import SIMULATION_NAME
from esmm_spark.files import storage
from esmm_spark.files.replacing import replacing
from esmm_spark.runtime.arrays import Bools, Float64s, Int64s
from esmm_spark.simulation.bags import IdBags
from esmm_spark.simulation.event_parts import DAY_S, EventPart, plan_event_parts
from esmm_spark.simulation.presets import preset_named
from esmm_spark.simulation.randomness import IdHash, block_generator
from esmm_spark.simulation.simulate import OUTPUT
from esmm_spark.simulation.simulate_events import Days, check_event_arguments, start_of_day_s, write_parquet
from esmm_spark.simulation.summaries import require_records, write_summary
from esmm_spark.simulation.world import DrawnBlock, World
from esmm_spark.spark.failures import user_errors
from esmm_spark.spark.tasks import Attempt, TaskReport, run_tasks

LOG = "log"
TABLE_FILES = (SIMULATION_NAME, f"{LOG}/part-*")
# Column -> field of a profile, or of the item.
_PROFILE = {"gender": "124", "age_group": "125", "spending": "126", "city_tier": "129", "segment": "121"}
_STREAM, _NOISE_STREAM = 7, 8


@dataclass(frozen=True)
class TableSummary:
    """What a simulation wrote."""

    preset: str
    seed: int
    first_day: str
    num_days: int
    impressions: int
    clicks: int
    orders: int

    def __str__(self) -> str:
        return (
            f"{self.num_days} days from {self.first_day}: {self.impressions:,} impressions, {self.clicks:,} "
            f"clicks, {self.orders:,} orders, preset {self.preset}, seed {self.seed}"
        )


class TablePartCounts(TaskReport):
    """What one part holds."""

    impressions: int
    clicks: int
    orders: int


def simulate_table(
    spark: SparkSession, output: str, num_groups: int, seed: int, preset: str, days: Days
) -> TableSummary:
    """Writes a simulated table and replaces what stood at `output`; what stood there is whole until then.

    Args:
        spark: the session.
        output: the folder.
        num_groups: requests of all days together.
        seed: of everything.
        preset: a name in `presets.SIMULATION_PRESETS`.
        days: of the impressions.

    Raises:
        ConfigError, InputError: as `check_event_arguments`.
        TargetBusyError: another run writes the output.
        CountMismatchError: a task's report is missing, or a file isn't what was drawn.
    """
    check_event_arguments(output, num_groups, seed, preset, days.number, TABLE_FILES)
    with (
        replacing(output, OUTPUT, TABLE_FILES) as new,
        user_errors(spark, "simulate again", f"{OUTPUT} {output}"),
    ):
        world, parts = World.calibrated(preset_named(preset), seed), plan_event_parts(num_groups, days.number)
        folder, first_day_s = storage.join(new.folder, LOG), start_of_day_s(days.first)

        def write(attempt: Attempt) -> TablePartCounts:
            part = parts[attempt.task]
            table = pa.concat_tables(_drawn(world, seed, part, first_day_s + part.day * DAY_S))
            write_parquet(table, storage.join(folder, f"part-{part.number:05d}.parquet"))
            clicks, orders = (int(table.column(name).to_numpy().sum()) for name in ("click", "order"))
            return TablePartCounts(
                task=attempt.task, impressions=table.num_rows, clicks=clicks, orders=orders
            )

        reports = run_tasks(spark, "simulate a table", len(parts), write, TablePartCounts)
        summary = TableSummary(
            preset=preset,
            seed=seed,
            first_day=days.first.isoformat(),
            num_days=days.number,
            impressions=sum(report.impressions for report in reports),
            clicks=sum(report.clicks for report in reports),
            orders=sum(report.orders for report in reports),
        )
        require_records(new.folder, {LOG: summary.impressions})
        write_summary(new.folder, asdict(summary))
    return summary


def _drawn(world: World, seed: int, part: EventPart, day_s: int) -> list[pa.Table]:
    return [
        table_of_block(world.draw(_STREAM, number, groups), seed, number, day_s)
        for number, groups in enumerate(part.groups, part.first_block)
    ]


def table_of_block(block: DrawnBlock, seed: int, number: int, day_s: int) -> pa.Table:
    """Returns the lines of a block's impressions.

    Args:
        block: N impressions in G groups.
        seed: the world's.
        number: the block's.
        day_s: the start of its day, seconds since 1970.
    """
    impressions, contexts, labels = block.impressions, block.contexts, block.labels
    context, items = impressions.context, impressions.items
    random = block_generator(seed, _NOISE_STREAM, number)
    request_ms = day_s * 1000 + random.integers(DAY_S * 1000, size=len(contexts.user))
    price = _prices(items.item, seed)
    dwell_s = np.where(labels.click == 1, np.round(np.exp(random.normal(3.5, 0.8, len(context))), 1), 0.0)
    columns = {
        "request_id": pa.array([f"r{number}-{group}" for group in range(len(contexts.user))]).take(
            pa.array(context)
        ),
        "event_time": pa.array(request_ms[context]),
        "user_id": pa.array(contexts.user[context]),
        **{name: _known(contexts.profile[field][context]) for name, field in _PROFILE.items()},
        "recent_categories": _weights(contexts.histories["109_14"]).take(pa.array(context)),
        "recent_brands": _lists(contexts.histories["127_14"]).take(pa.array(context)),
        "item_id": pa.array(items.item),
        "category": pa.array(items.category),
        "shop": pa.array(items.shop),
        "brand": _known(items.brand),
        "price": pa.array(price),
        "position": pa.array(impressions.position),
        "app": pa.array(["shop"] * len(context)),
        "click": pa.array(labels.click.astype(np.int8)),
        "dwell_s": pa.array(dwell_s),
        "order": pa.array(labels.conversion.astype(np.int8)),
        "order_amount": pa.array(price, mask=labels.conversion == 0),
    }
    return pa.table(columns)


def _prices(item: Int64s, seed: int) -> Float64s:
    """Returns each item's price: log-normal, a function of the item."""
    return np.asarray(np.round(np.exp(3 + 0.7 * IdHash(seed, "price of an item").factor(item)), 2))


def _known(values: Int64s) -> pa.Array:
    """Returns the ids, null where they are missing."""
    missing: Bools = values < 0
    return pa.array(values, mask=missing)


def _lists(bags: IdBags) -> pa.ListArray:
    return pa.ListArray.from_arrays(_offsets(bags), pa.array(bags.id).cast(pa.string()))


def _weights(bags: IdBags) -> pa.MapArray:
    weights = pa.array(np.log1p(bags.count).astype(np.float32))
    return pa.MapArray.from_arrays(_offsets(bags), pa.array(bags.id).cast(pa.string()), weights)


def _offsets(bags: IdBags) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(bags.lengths)]).astype(np.int32))
