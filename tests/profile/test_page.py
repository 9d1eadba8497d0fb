"""What the page shows, of facts by hand."""

import re

from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.profile.counts.facts import PeriodFacts, SampleFacts, Separation, TableFacts, ValueCount
from esmm_spark.profile.guesses.config_guess import write_config
from esmm_spark.profile.guesses.features import guess_features
from esmm_spark.profile.guesses.role_guess import guess_roles
from esmm_spark.profile.page import profile_html
from esmm_spark.profile.result import Profile
from tests.profile.guesses.hand_facts import LINES, column, flag


def facts() -> TableFacts:
    tags = {"values": 2 * LINES, "lengths": [2.0, 3.0, 7.0], "mean_length": 2.25}
    shares = [float(10 * step) for step in range(21)]
    columns = [
        *(column("<city>"), column("paid", missing=9_900), flag("click", 500), column("likes")),
        column("tags", shape="list", **tags),
        column("price", numbers=LINES, wholes=9, mean=99.5, quantiles=shares, tails=[-1.25, 198_765.0]),
    ]
    day = PeriodFacts(LINES // 2, 0, LINES // 2, None, {"Rome": 2_000})
    other = day._replace(tops={"Rome": 1_000})
    return TableFacts(
        "data/log",
        LINES,
        3,
        columns,
        sample_lines=LINES,
        samples={
            "<city>": SampleFacts({"click": Separation(None, 0.61)}),
            "paid": SampleFacts({"click": Separation(0.99, 0.98)}),
            "click": SampleFacts({"click": Separation(1.0, 1.0)}),
        },
        top={
            "<city>": [ValueCount("Rome", 3_000, {"click": 0.1})],
            "likes": [ValueCount("many", 77, {"click": 0.2})],
        },
        periods=["2026-11-20", "2026-11-21"],
        drift={each.name: [day, other if each.name == "<city>" else day] for each in columns},
        labels={"click": (500, LINES)},
        label_periods={"click": [(300, 5_000), (200, 5_000)]},
    )


def page() -> str:
    found, table = facts(), TableLog.model_validate({"path": "data/log", "features": {"a": {"constant": 0}}})
    roles = guess_roles(found)
    features = guess_features(found, roles, None)
    config = write_config(found, roles, features, table, "run")
    return profile_html(Profile(found, roles, features, table, config, ["picture (binary)"]))


def cells_of(html: str, name: str) -> list[list[str]]:
    """Returns the cells of the lines of all tables that begin with a name."""
    lines = re.findall(rf"<tr><th>{re.escape(name)}</th>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in lines]


def test_the_page_has_all_sections_warns_of_leaks_and_escapes_names() -> None:
    html = page()
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert titles == [
        "At a glance",
        "Columns",
        "What tells the labels",
        "Numbers and lists",
        "Over days",
        "Frequent values",
        "Hash tables",
        "Config",
        "Method",
    ]
    assert "<p>paid leaks the label: alone it has an AUC of 0.990 for click. It is left out.</p>" in html
    assert "and left out: likes. Put back those that are known when it is shown." in html
    assert "picture (binary)" in html
    assert "3 of 10,000 lines can" in html
    assert "<city>" not in html
    assert "&lt;city&gt;" in html
    # Rome is on 30% of the lines, on 40% of the first day's: half of the sum of differences is 0.1.
    assert re.search(r"&lt;city&gt;</th>\s*<td[^>]*>0.100</td>", html)
    # Of every column, used or left out.
    below_zero = "\N{MINUS SIGN}1.25"
    quantiles = ["0", below_zero, "10", "50", "100", "150", "190", "198,765", "200", "99.5"]
    assert cells_of(html, "price")[0] == quantiles
    assert cells_of(html, "tags")[0] == ["2", "3", "7", "2.25"]
    assert cells_of(html, "likes") == [["0.000", "2026-11-21", "0% to 0%", ""]]
    assert cells_of(html, "many") == [["77", "0.770%", "20.0%"]]
    # Nothing is fetched from anywhere.
    assert not re.search(r'(src|href)="http', html)
