"""The report of the join as people see it."""

import re
from pathlib import Path

from esmm_spark.contracts.manifest import DayCounts, DayPartition, Manifest, SourceCounts
from esmm_spark.contracts.schemas.layout import DAY_PARTITION, EXAMPLES, MARKER
from esmm_spark.evaluation.report.sections.join import read_days
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import write_manifest
from tests.evaluation.report.test_report import measured, page_with_blank_plots, subject
from tests.events.small_logs import config


def counts(orphans: int) -> DayCounts:
    matches = {
        "total": 10,
        "matched": 8,
        "orphans": orphans,
        "of_orphan_causes": 1,
        "before_cause": 3,
        "of_earlier_causes": 0,
    }
    return DayCounts(
        as_of=None,
        label_digest="1",
        immature=4,
        warnings=["0 of 9 clicks <none>"],
        sources=[
            SourceCounts(name="ds=x.clicks", path="p", lines_read=9, lines_accepted=2, rejects={"bad_id": 7})
        ],
        join={
            "impressions": {"total": 12345, "with_clicks": 6, "with_conversions": 2},
            "clicks": {**matches, "match_rate": 0.8},
            "conversions": {**matches, "match_rate": None},
            "repeats": {"clicks": 5, "conversions": 0},
            "delay_s": {"clicks": {"<= 60": 3, "> 2592000": 1}, "conversions": {}},
            "top_keys": {"user_id": [["<bot>", 9, 0.75]], "item_id": [], "item_id of conversions": []},
        },
    )


def write(tmp_path: Path, days: dict[str, DayCounts] | None) -> str:
    dataset = str(tmp_path / "dataset")
    spec = config(tmp_path).features
    for name, day in (days or {}).items():
        folder = storage.join(dataset, EXAMPLES, name)
        partition = DayPartition(examples=None, day=day)
        storage.write_text(storage.join(folder, DAY_PARTITION), partition.model_dump_json())
        storage.write_text(storage.join(folder, MARKER), "")
    manifest = Manifest(
        feature_spec=spec, feature_spec_digest=spec.digest, sources=[], partitions={}, config={}, days=days
    )
    write_manifest(dataset, manifest)
    storage.write_text(storage.join(dataset, MARKER), "")
    return dataset


def test_every_day_has_its_rates_orphans_skew_delays_and_keys(tmp_path: Path) -> None:
    days = read_days(write(tmp_path, {"ds=2026-11-23": counts(1), "ds=2026-11-24": counts(20)}))
    html = page_with_blank_plots(subject(days=days), measured())
    section = html.partition("<h2>Join of the event logs</h2>")[2].partition("</section>")[0]
    for expected in (
        "<th>2026-11-23</th>",
        "12,345",
        "80.0%",
        "n/a",
        ">2<",
        ">21<",
        "clicks: bad_id 7",
        "&lt;= 60",
        "25.0%",
        "&lt;bot&gt;: 9 (75.0%)",
        "0 of 9 clicks &lt;none&gt;",
    ):
        assert expected in section, expected


def table_rows(section: str, heading: str) -> list[list[str]]:
    """Returns the cells of the table below a heading of a section, row by row."""
    table = section.partition(f"<h3>{heading}</h3>")[2].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [
        [cell.strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows
    ]


def test_catalogs_and_reversals_have_their_match_rates_day_by_day(tmp_path: Path) -> None:
    first, second = counts(1), counts(1)
    # Of the 12,345 impressions; the second day was built with one more catalog, the first without refunds.
    first.join["catalogs"] = {"0": 12345}
    second.join |= {"catalogs": {"0": 6172, "1": 0}, "reversals": {"refunds": {"total": 40, "matched": 10}}}
    days = read_days(write(tmp_path, {"ds=2026-11-23": first, "ds=2026-11-24": second}))
    html = page_with_blank_plots(subject(days=days), measured())
    assert table_rows(html, "Impressions of which a catalog has an entry") == [
        ["Day", "catalogs.0", "catalogs.1"],
        ["2026-11-23", "100.0%", "n/a"],
        ["2026-11-24", "50.0%", "0.0%"],
    ]
    assert table_rows(html, "Events that refunds take back") == [
        ["Day", "refunds", "matched"],
        ["2026-11-23", "0", "n/a"],
        ["2026-11-24", "40", "25.0%"],
    ]
    without = page_with_blank_plots(subject(days={"ds=2026-11-23": counts(1)}), measured())
    assert "a catalog has an entry" not in without


def test_a_dataset_without_days_or_none_at_all_has_no_section(tmp_path: Path) -> None:
    assert read_days(str(tmp_path / "nowhere")) == {}
    assert read_days(write(tmp_path, None)) == {}
    assert "Join of the event logs" not in page_with_blank_plots(subject(days={}), measured())
