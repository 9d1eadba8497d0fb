"""The written config of facts by hand: a reason beside each guess, and what is needed where there is none."""

from typing import Any

import pytest
import yaml

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.profile.counts.facts import ColumnFacts, SampleFacts, Separation, TableFacts
from esmm_spark.profile.counts.roles import roles_of_config
from esmm_spark.profile.guesses.config_guess import WrittenConfig, write_config
from esmm_spark.profile.guesses.features import guess_features
from esmm_spark.profile.guesses.role_guess import guess_roles
from tests.profile.guesses.hand_facts import LINES, column, flag

MATURING = {
    "labels": {"click": "click", "conversion": {"time": "paid", "window_s": 60}},
    "time": "at",
    "as_of": "2026-11-24",
    "immature": "unknown",
}
PRICE = column("price", distinct=3_000, numbers=LINES, wholes=10, quantiles=[float(n) for n in range(21)])


def written(*columns: ColumnFacts, given: dict[str, Any] | None = None, **facts: Any) -> WrittenConfig:
    """Returns the config of columns; `given`: keys of `logs.table` that a config has, labels among them."""
    found = TableFacts("data/log", LINES, 0, columns, sample_lines=LINES, **{"sample_keys": 100, **facts})
    content = {"path": "data/log", "features": {"nothing": {"constant": 0}}, **(given or {})}
    table = TableLog.model_validate(content)
    roles = roles_of_config(table, DEFAULT_TASKS) if table.labels else guess_roles(found)
    return write_config(found, roles, guess_features(found, roles, None), table, "run")


def config_of(found: WrittenConfig) -> Config:
    assert found.needed == []
    return Config.model_validate(yaml.safe_load(found.text))


def test_kinds_levels_and_buckets() -> None:
    columns = [
        column("request_id", distinct=1_000),
        column("city"),
        column("item_id", distinct=9_000, numbers=LINES, wholes=LINES, quantiles=[0.0] * 21),
        PRICE,
        column("tags", shape="list", values=2 * LINES),
        column("seen", shape="weights", values=2 * LINES),
        flag("click", 500),
    ]
    differing = {name: SampleFacts(differing=90) for name in ("item_id", "price")}
    found = written(*columns, samples=differing)
    config = config_of(found)
    fields = {
        field.name: (field.level, field.kind, field.multi, field.weighted) for field in config.features.fields
    }
    assert fields == {
        "city": ("context", "categorical", False, False),
        "item_id": ("impression", "categorical", False, False),
        "price": ("impression", "numeric", False, False),
        "tags": ("context", "categorical", True, False),
        "seen": ("context", "categorical", True, True),
    }
    price = next(field for field in config.features.fields if field.name == "price")
    assert price.buckets == [float(n) for n in range(1, 20)]
    assert config.features.tables["city"].num_buckets == 2048
    assert "request_id  # 10.0 lines share one of 1,000 values" in found.text
    assert "#   request_id: context key" in found.text


def test_a_part_of_an_id_is_a_feature_and_all_that_a_label_is_made_of_is_none() -> None:
    given = {
        "impression_id": {"concat": ["request", "position"]},
        "context_key": "request",
        "labels": {
            "click": "clicked",
            "conversion": {"expr": "if(State = 'x' and `shop.state` is null, 1, 0)"},
        },
    }
    names = ("request", "position", "user", "state", "shop.state", "if")
    found = written(*(column(name) for name in names), flag("clicked", 500), given=given)
    assert [field.name for field in config_of(found).features.fields] == ["position", "user", "if"]
    for reason in (
        "request: an id that does not come back",
        "state: label of conversion",
        "clicked: label of click",
    ):
        assert f"#   {reason}\n" in found.text


@pytest.mark.parametrize(
    ("name", "auc", "is_feature"),
    [
        ("likes", 0.5, False),
        ("num_comments", 0.55, False),
        ("isPaid", None, False),
        ("likes", 0.9, False),
        ("last_click_day", 0.55, True),
        ("last_click_day", 0.7, False),
        ("position", 0.9, True),
    ],
)
def test_what_is_called_like_an_outcome_is_left_out_unless_it_is_of_the_past(
    name: str, auc: float | None, is_feature: bool
) -> None:
    samples = {name: SampleFacts({"click": Separation(auc, None)})}
    found = written(column("city"), column(name), flag("click", 500), samples=samples)
    assert [field.name for field in config_of(found).features.fields] == [
        "city",
        *([name] if is_feature else []),
    ]
    told = "" if auc is None else f", and its AUC is {auc:.2f}"
    left_out = f"#   {name}: named like an outcome{told}: put it back if it is known at the impression\n"
    assert (left_out in found.text) is not is_feature


def test_a_list_of_outcomes_is_a_history() -> None:
    found = written(column("clicked_items", shape="list", values=2 * LINES), flag("click", 500))
    assert [field.name for field in config_of(found).features.fields] == ["clicked_items"]


@pytest.mark.parametrize(
    ("quantiles", "buckets"),
    [
        ([0.0] * 20 + [9.5], [9.5]),
        ([1.0, *[12345678.1, 12345678.2] * 9, 2e7, 3e7], [12345680.0, 2e7]),
    ],
)
def test_buckets_of_numbers_ascend_and_there_is_one_at_least(
    quantiles: list[float], buckets: list[float]
) -> None:
    fee = column("fee", distinct=60, numbers=LINES, wholes=10, quantiles=quantiles)
    (field,) = config_of(written(fee, flag("click", 500))).features.fields
    assert (field.kind, field.buckets) == ("numeric", buckets)


def test_a_label_that_nothing_is_called_like_is_needed_in_one_line() -> None:
    found = written(column("city"), flag("is_vip", 10), flag("is_new", 20))
    (needed,) = found.needed
    assert needed.startswith("a label: no column of 0 and 1 is called like one")
    assert f"# NEEDED: {needed}" in found.text.replace("#   NEEDED", "# NEEDED")
    yaml.safe_load(found.text)


@pytest.mark.parametrize(("orphans", "given"), [(5, "click"), (500, None)])
def test_conversions_without_clicks_are_left_out_or_a_root_of_their_own(
    orphans: int, given: str | None
) -> None:
    labels = {"click": (500, LINES), "conversion": (100, 500)}
    found = written(
        column("city"), flag("click", 500), flag("order", 100), labels=labels, orphans={"conversion": orphans}
    )
    config = config_of(found)
    assert config.tasks.parent("conversion") == given
    assert config.logs.table is not None
    assert (config.logs.table.where is not None) == (given is not None)


def test_the_configs_own_condition_keeps_its_meaning_beside_that_of_orphans() -> None:
    given = {"where": "city = 'Rome' or city = 'Oslo'"}
    facts = {"labels": {"click": (500, LINES), "conversion": (100, 500)}, "orphans": {"conversion": 5}}
    found = written(column("city"), flag("click", 500), flag("order", 100), given=given, **facts)
    table = config_of(found).logs.table
    assert table is not None
    assert table.where is not None
    assert table.where.startswith("(city = 'Rome' or city = 'Oslo') and (not (")


@pytest.mark.parametrize(
    ("given", "unknown", "kept"),
    [
        (
            {"labels": {"click": "click", "conversion": {"expr": "nullif(order, '')"}}},
            {"conversion": 7},
            "keep",
        ),
        ({"labels": {"click": "click", "conversion": "order"}}, {"conversion": 0}, "reject"),
        (MATURING, {}, "keep"),
        ({**MATURING, "immature": "keep"}, {}, "reject"),
    ],
)
def test_lines_are_kept_where_a_label_is_or_may_be_unknown(
    given: dict[str, Any], unknown: dict[str, int], kept: str
) -> None:
    found = written(column("city"), flag("click", 500), given=given, unknown=unknown)
    assert config_of(found).samples.unknown_labels == kept


def test_leaks_constants_and_ids_are_left_out_with_their_reasons() -> None:
    columns = [
        column("city"),
        column("paid", missing=9_900),
        column("app", distinct=1, first="shop"),
        column("trace", distinct=LINES),
        flag("click", 500),
    ]
    found = written(*columns, samples={"paid": SampleFacts({"click": Separation(None, 0.98)})})
    assert [field.name for field in config_of(found).features.fields] == ["city"]
    for line in (
        "paid: leaks the label: alone it has an AUC of 0.980 for click",
        "app: constant: always shop",
        "trace: nearly every line has a value of its own",
    ):
        assert f"#   {line}\n" in found.text
