"""The simulated flat table: one world's impressions, and what is known only after the event."""

import numpy as np
import pandas as pd
import pytest

from esmm_spark.simulation.presets import preset_named
from esmm_spark.simulation.simulate_table import table_of_block
from esmm_spark.simulation.world import World

DAY_S = 1_795_132_800


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    # Near the demo preset's own: a calibration would take seconds.
    world = World(preset_named("demo"), 1, (-3.0, -1.5))
    block = world.draw(7, 0, 64)
    first, again = (table_of_block(block, 1, 0, DAY_S) for _ in range(2))
    assert first.equals(again)
    assert len(first) == len(block.labels.click)
    return first.to_pandas()


def test_a_requests_lines_share_user_time_and_history(table: pd.DataFrame) -> None:
    by_request = table.groupby("request_id")
    assert (by_request[["user_id", "event_time", "segment"]].nunique(dropna=False) == 1).all().all()
    assert table.event_time.between(DAY_S * 1000, (DAY_S + 86_400) * 1000 - 1).all()


def test_orders_follow_clicks_and_what_is_known_later_says_so(table: pd.DataFrame) -> None:
    assert table.click.sum() > table.order.sum() > 0
    assert (table.click[table.order == 1] == 1).all()
    assert ((table.dwell_s > 0) == (table.click == 1)).all()
    assert (table.order_amount.notna() == (table.order == 1)).all()


def test_a_price_is_an_items(table: pd.DataFrame) -> None:
    assert (table.groupby("item_id").price.nunique() == 1).all()
    assert np.median(table.price) == pytest.approx(np.exp(3), rel=0.5)
