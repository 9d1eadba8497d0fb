"""One part of simulated event logs: groups of a day as impressions, clicks and conversions with times.

The contexts, impressions and labels are the world's (world.py), only written as other logs. What a context's
history was counted from becomes clicks of the ten days before the first day, so that it can be counted again.
And the logs have what real logs have: a bot, repeats, late lines, lines twice, events without a cause.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from esmm_spark.contracts.schemas.columns import TRUTH_COLUMNS
from esmm_spark.files.schemas import arrow_schema
from esmm_spark.runtime.arrays import Int64s
from esmm_spark.simulation.catalogue import Catalogue
from esmm_spark.simulation.randomness import block_generator
from esmm_spark.simulation.repurchases import draw_repurchases, with_truth
from esmm_spark.simulation.world import GROUPS_PER_BLOCK, DrawnBlock, World

DAY_S = 86_400
HISTORY_DAYS = 10
BOT = "bot"
# On the second day. A group is the bot's by chance, so this holds within a few percent.
BOT_SHARE = 0.2
BOT_DAY = 1

_STREAM = 3
_NOISE_STREAM = 4
_DUPLICATED = 0.01
_LATE = 0.02
_ORPHANS = 0.02
_REPEATED = 0.05
_BETWEEN_IMPRESSIONS_S = 2.0
_CLICK_DELAY_S = 30.0
_CONVERSION_DELAY_S = 8 * 3600.0
_MAX_CONVERSION_DELAY_S = 3 * DAY_S
_REPURCHASE_STREAM = 6
_REPURCHASE_DELAY_S = 12 * 3600.0
_MAX_REPURCHASE_DELAY_S = 2 * DAY_S


@dataclass(frozen=True)
class EventPart:
    """A part of one day: blocks that one task draws and writes.

    Attributes:
        number: of the part, over all days.
        day: from 0.
        first_block: of its blocks, over all days.
        groups: of each block.
    """

    number: int
    day: int
    first_block: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class EventTables:
    """What one part adds to each log: tables by (log, day of the folder), and the truth."""

    logs: dict[tuple[str, int], pa.Table]
    truth: pa.Table


def plan_event_parts(num_groups: int, num_days: int, blocks_per_part: int = 16) -> list[EventPart]:
    """Returns the parts of all days; a day has `num_groups / num_days` groups, the first ones one more."""
    parts: list[EventPart] = []
    next_block = 0
    for day in range(num_days):
        left = num_groups // num_days + (day < num_groups % num_days)
        while left > 0:
            in_part = min(left, blocks_per_part * GROUPS_PER_BLOCK)
            full, rest = divmod(in_part, GROUPS_PER_BLOCK)
            groups = (GROUPS_PER_BLOCK,) * full + ((rest,) if rest else ())
            parts.append(EventPart(len(parts), day, next_block, groups))
            next_block += len(groups)
            left -= in_part
    return parts


def draw_event_part(
    world: World,
    catalogue: Catalogue,
    seed: int,
    part: EventPart,
    first_day_s: int,
    num_days: int,
    with_repurchases: bool = False,
) -> EventTables:
    """Returns the tables of one part: the same whenever and wherever it is drawn.

    Args:
        world: what is drawn from.
        catalogue: the world's.
        seed: the world's.
        part: the part.
        first_day_s: the start of day 0, seconds since 1970.
        num_days: lines that are late come at most in the last day's folder.
        with_repurchases: whether there is a log of them, too; the others are the same.
    """
    random = block_generator(seed, _NOISE_STREAM, part.number)
    parts_of_logs: dict[str, list[pa.Table]] = {"impressions": [], "clicks": [], "conversions": []}
    if with_repurchases:
        parts_of_logs["repurchases"] = []
    truths = []
    for number, groups in enumerate(part.groups, part.first_block):
        block = world.draw(_STREAM, number, groups)
        prefix = f"{number}"
        drawn = _draw_block(block, random, part.day, first_day_s + part.day * DAY_S, prefix)
        past = _past_clicks(block, catalogue, random, first_day_s, prefix)
        truths.append(drawn.pop("truth"))
        if with_repurchases:
            again = draw_repurchases(block, seed, number)
            truths[-1] = with_truth(truths[-1], again)
            drawn["repurchases"] = _repurchases(block, drawn["conversions"], again.if_converted, seed, number)
        for log, table in drawn.items():
            parts_of_logs[log].append(table)
        parts_of_logs["clicks"].append(past)
    logs = {}
    for log, tables in parts_of_logs.items():
        for day, table in _into_folders(pa.concat_tables(tables), random, first_day_s, num_days).items():
            logs[log, day] = table
    return EventTables(logs, pa.concat_tables(truths))


def item_table(catalogue: Catalogue, items: Int64s, valid_from_ms: int) -> pa.Table:
    """Returns the catalog's entries of items: category, shop, brand (null where it has none), intentions."""
    shop, slot = np.divmod(items, catalogue.preset.items_per_shop)
    # The uniform number that zipf_rank turns into the item's slot.
    uniform = np.log(slot + 1.5) / np.log(catalogue.preset.items_per_shop + 1.0)
    described = catalogue.items_of(shop, catalogue.category_of_shop(shop), uniform)
    assert np.array_equal(described.item, items)
    owner, intention = catalogue.intentions_of(described)
    offsets = np.searchsorted(owner, np.arange(len(items) + 1)).astype(np.int32)
    intentions = pa.ListArray.from_arrays(pa.array(offsets), _text(intention))
    return pa.table(
        {
            "item_id": _text(items),
            "valid_from": pa.array(np.full(len(items), valid_from_ms)),
            "category": _text(described.category),
            "shop": _text(described.shop),
            "brand": _optional(described.brand),
            "intentions": intentions,
        }
    )


def _draw_block(
    block: DrawnBlock, random: np.random.Generator, day: int, start_s: int, prefix: str
) -> dict[str, pa.Table]:
    contexts, impressions, labels = block.contexts, block.impressions, block.labels
    context = impressions.context
    user = _text(contexts.user).to_numpy(zero_copy_only=False)
    if day == BOT_DAY:
        user = np.where(random.random(len(user)) < BOT_SHARE, BOT, user)
    # A visit ends on the day on which it began.
    begun_s = random.random(len(user)) * (DAY_S - _BETWEEN_IMPRESSIONS_S * contexts.num_impressions)
    shown_s = start_s + begun_s[context] + impressions.number * _BETWEEN_IMPRESSIONS_S
    shown_ms = (shown_s * 1000).astype(np.int64)
    users, items = user[context], _text(impressions.items.item).to_numpy(zero_copy_only=False)
    ids = _numbered("i", prefix, np.arange(len(context)))
    table = {
        "event_time": shown_ms,
        "impression_id": ids,
        "request_id": _numbered("r", prefix, context),
        "user_id": users,
        "item_id": items,
        "position": impressions.position.astype(str),
    }
    for field, values in contexts.profile.items():
        table[f"profile_{field}"] = _optional(values[context])
    clicked = np.flatnonzero(labels.click)
    click_ms = shown_ms[clicked] + _delays_ms(random, len(clicked), _CLICK_DELAY_S, 3600)
    converted = np.flatnonzero(labels.conversion[clicked])
    conversion_ms = click_ms[converted] + _delays_ms(
        random, len(converted), _CONVERSION_DELAY_S, _MAX_CONVERSION_DELAY_S
    )
    bought = clicked[converted]
    clicks = _clicks(_numbered("c", prefix, clicked), click_ms, ids[clicked], users[clicked], items[clicked])
    again = np.flatnonzero(random.random(len(clicked)) < _REPEATED)
    repeats = _clicks(
        _numbered("a", prefix, clicked[again]),
        click_ms[again] + 1 + (random.random(len(again)) * 5000).astype(np.int64),
        *(column[clicked[again]] for column in (ids, users, items)),
    )
    conversions = _conversions(_numbered("v", prefix, bought), conversion_ms, users[bought], items[bought])
    lost = np.flatnonzero(random.random(len(clicked)) < _ORPHANS)
    lost_ms = click_ms[lost]
    orphan_ids = _numbered("x", prefix, lost)
    orphan_clicks = _clicks(orphan_ids, lost_ms, orphan_ids, users[clicked[lost]], items[clicked[lost]])
    orphans = _conversions(orphan_ids, lost_ms, _numbered("nobody", prefix, lost), items[clicked[lost]])
    truth = {
        "impression_id": ids,
        "pctr": labels.pctr,
        "pcvr": labels.pcvr,
        "conversion_if_clicked": labels.conversion_if_clicked.astype(np.int8),
    }
    return {
        "impressions": pa.table(table),
        "clicks": pa.concat_tables([clicks, repeats, orphan_clicks]),
        "conversions": pa.concat_tables([conversions, orphans]),
        "truth": pa.table(truth, schema=arrow_schema(TRUTH_COLUMNS)),
    }


def _repurchases(block: DrawnBlock, conversions: pa.Table, drawn: Int64s, seed: int, number: int) -> pa.Table:
    """Returns the repurchases after a block's conversions, none after those that are nobody's."""
    bought = np.flatnonzero(block.labels.conversion)
    again = np.flatnonzero(drawn[bought])
    random = block_generator(seed, _REPURCHASE_STREAM, number)
    # The first conversions of the table are those of the impressions, in their order.
    earlier = conversions.take(pa.array(again))
    time_ms = earlier["event_time"].to_numpy() + _delays_ms(
        random, len(again), _REPURCHASE_DELAY_S, _MAX_REPURCHASE_DELAY_S
    )
    return pa.table(
        {
            "event_time": time_ms,
            "repurchase_id": _strings(_numbered("w", str(number), bought[again])),
            "user_id": earlier["user_id"],
            "item_id": earlier["item_id"],
        }
    )


def _past_clicks(
    block: DrawnBlock, catalogue: Catalogue, random: np.random.Generator, first_day_s: int, prefix: str
) -> pa.Table:
    """Returns the clicks, before day 0, that the block's histories count; their impressions are in no log."""
    contexts = block.contexts
    size = len(contexts.event_context)
    items = catalogue.items_of(contexts.event_shop, contexts.event_category, random.random(size)).item
    time_s = first_day_s - HISTORY_DAYS * DAY_S * random.random(size)
    ids = _numbered("h", prefix, np.arange(size))
    users = _text(contexts.user[contexts.event_context]).to_numpy(zero_copy_only=False)
    time_ms = np.minimum((time_s * 1000).astype(np.int64), first_day_s * 1000 - 1)
    return _clicks(ids, time_ms, ids, users, _text(items).to_numpy(zero_copy_only=False))


def _clicks(ids: object, time_ms: Int64s, impression_ids: object, users: object, items: object) -> pa.Table:
    return pa.table(
        {
            "event_time": time_ms,
            "click_id": _strings(ids),
            "impression_id": _strings(impression_ids),
            "user_id": _strings(users),
            "item_id": _strings(items),
        }
    )


def _conversions(ids: object, time_ms: Int64s, users: object, items: object) -> pa.Table:
    return pa.table(
        {
            "event_time": time_ms,
            "conversion_id": _strings(ids),
            "user_id": _strings(users),
            "item_id": _strings(items),
        }
    )


def _into_folders(
    table: pa.Table, random: np.random.Generator, first_day_s: int, num_days: int
) -> dict[int, pa.Table]:
    """Returns day of the folder -> its lines, out of order, some twice, some a day late."""
    twice = np.flatnonzero(random.random(table.num_rows) < _DUPLICATED)
    order = random.permutation(np.concatenate([np.arange(table.num_rows), twice]))
    table = table.take(pa.array(order))
    day = (table["event_time"].to_numpy() // 1000 - first_day_s) // DAY_S
    is_late = (random.random(len(day)) < _LATE) & (day >= 0) & (day < num_days - 1)
    folder = day + is_late
    return {int(each): table.filter(pa.array(folder == each)) for each in np.unique(folder)}


def _delays_ms(random: np.random.Generator, size: int, mean_s: float, most_s: float) -> Int64s:
    delays = np.minimum(random.exponential(mean_s, size), most_s)
    return np.asarray((delays * 1000).astype(np.int64))


def _numbered(kind: str, prefix: str, numbers: Int64s) -> NDArray[np.str_]:
    """Returns ids like `i7-12`: kind, block, number."""
    return np.char.add(f"{kind}{prefix}-", numbers.astype(str))


def _text(numbers: Int64s) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _optional(numbers: Int64s) -> pa.Array:
    """Returns numbers as text, null where they are negative."""
    return pa.array(numbers, mask=numbers < 0).cast(pa.string())


def _strings(values: object) -> pa.Array:
    return pa.array(values, pa.string())
