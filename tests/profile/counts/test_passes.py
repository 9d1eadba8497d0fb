"""Counts of columns, sample and frequent values against pandas on the same small table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from esmm_spark.profile.counts.facts import TableFacts
from esmm_spark.profile.counts.opening import guess_table
from esmm_spark.profile.profiling import profile_table
from esmm_spark.profile.result import Profile

pytestmark = pytest.mark.spark

DAY_MS = 86_400_000
FIRST_MS = 1_795_132_800_000  # 2026-11-20


def frame() -> pd.DataFrame:
    random = np.random.default_rng(5)
    size = 600
    request = np.arange(size) // 5
    click = (random.random(size) < 0.4).astype(int)
    return pd.DataFrame(
        {
            "request_id": [f"r{number}" for number in request],
            "time": FIRST_MS + (request % 4) * DAY_MS + 7,
            "city": [None if each % 10 == 3 else f"city{each % 7}" for each in request],
            "item": random.integers(300, size=size),
            "price": np.round(random.lognormal(2, 1, size), 2),
            "tags": [[f"t{number % 5}", f"t{number % 3}"] if number % 4 else None for number in range(size)],
            "same": "x",
            "click": click,
            "dwell": np.where(click == 1, random.random(size) + 0.1, 0.0),
            "order": click * (random.random(size) < 0.5),
        }
    )


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return frame()


@pytest.fixture(scope="module")
def found(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, data: pd.DataFrame) -> Profile:
    folder = tmp_path_factory.mktemp("profile")
    data.to_parquet(folder / "log.parquet", index=False)
    return profile_table(spark, guess_table(str(folder / "log.parquet")), None, str(folder / "out/profile"))


@pytest.fixture(scope="module")
def facts(found: Profile) -> TableFacts:
    return found.facts


def test_lines_missing_and_distinct_values(facts: TableFacts, data: pd.DataFrame) -> None:
    assert (facts.lines, facts.malformed) == (600, 0)
    for name in ("request_id", "time", "city", "item", "price", "same", "click"):
        column, series = facts.column(name), data[name]
        assert (column.lines, column.missing) == (600, int(series.isna().sum()))
        # HyperLogLog within three of its standard errors.
        assert column.distinct == pytest.approx(series.nunique(), rel=3 * 0.0081)


def test_numbers_have_means_and_quantiles_of_rank_within_a_thousandth(
    facts: TableFacts, data: pd.DataFrame
) -> None:
    column = facts.column("price")
    assert column.mean == pytest.approx(data.price.mean())
    for step, quantile in enumerate(column.quantiles):
        below, up_to = (data.price < quantile).mean(), (data.price <= quantile).mean()
        assert below - 0.002 <= step / 20 <= up_to + 0.002
    for share, quantile in zip((0.01, 0.99), column.tails, strict=True):
        assert abs((data.price <= quantile).mean() - share) <= 0.005
    assert (column.quantiles[0], column.quantiles[-1]) == (data.price.min(), data.price.max())


def test_lists_count_items_and_lengths(facts: TableFacts, data: pd.DataFrame) -> None:
    column, tags = facts.column("tags"), data.tags.dropna()
    assert (column.shape, column.missing) == ("list", int(data.tags.isna().sum()))
    assert (column.values, column.distinct) == (tags.str.len().sum(), tags.explode().nunique())
    assert column.mean_length == tags.str.len().mean()


def test_frequent_values_have_exact_counts_and_rates(facts: TableFacts, data: pd.DataFrame) -> None:
    counts = data.city.value_counts()
    assert {each.value: each.times for each in facts.top["city"]} == counts.to_dict()
    for each in facts.top["city"]:
        lines = data[data.city == each.value]
        assert each.rates["click"] == pytest.approx(lines.click.mean())
        assert each.rates["conversion"] == pytest.approx(lines[lines.click == 1].order.mean())
    items = data.tags.explode().value_counts()
    assert {each.value: each.times for each in facts.top["tags"]} == items.to_dict()
    assert facts.labels == {
        "click": (data.click.sum(), 600),
        "conversion": (data.order.sum(), data.click.sum()),
    }


def test_periods_are_days(facts: TableFacts, data: pd.DataFrame) -> None:
    assert facts.periods == ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"]
    days = (data.time - FIRST_MS) // DAY_MS
    for day, period in enumerate(facts.drift["price"]):
        of_day = data[days == day]
        assert (period.lines, period.missing, period.values) == (len(of_day), 0, len(of_day))
        assert period.mean == pytest.approx(of_day.price.mean())
        city = facts.drift["city"][day]
        assert city.tops == of_day.city.value_counts().to_dict()
        assert facts.label_periods["click"][day] == (of_day.click.sum(), len(of_day))


def test_levels_leaks_and_constants(found: Profile) -> None:
    guesses = {guess.column.name: guess for guess in found.features}
    levels = {name: guess.level for name, guess in guesses.items() if guess.level}
    assert levels == {"city": "context", "item": "impression", "price": "impression", "tags": "impression"}
    assert guesses["dwell"].reason == "leaks the label: alone it has an AUC of 1.000 for click"
    assert guesses["same"].reason == "constant: always x"
    assert found.roles.context_key is not None
    assert found.roles.context_key.column == "request_id"


def test_the_files_stand_together_and_hold_the_same_numbers(found: Profile, spark: SparkSession) -> None:
    folder = Path(found.facts.path).parent / "out/profile"
    assert sorted(path.name for path in folder.iterdir()) == [
        "_SUCCESS",
        "config.yaml",
        "profile.html",
        "profile.json",
    ]
    assert json.loads((folder / "profile.json").read_text())["lines"] == 600
