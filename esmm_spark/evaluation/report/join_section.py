"""The section about the join of event logs, day by day: what events/join_report.py put into the manifest."""

from collections.abc import Sequence
from html import escape
from typing import Any

from esmm_spark.contracts.manifest import DayCounts
from esmm_spark.contracts.schemas.layout import DAY_PREFIX, MANIFEST_NAME
from esmm_spark.evaluation.report.page import Section, paragraph
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import read_manifest

_MAX_DAYS = 31
_NAMES = {"click": "impression to click", "conversion": "click to conversion"}


def join_section(dataset: str) -> Section | None:
    """Returns the section about the days of a dataset, the newest 31; None where it isn't of event logs.

    Raises:
        InputError, IncompleteError, UnsafeFileError: there is a dataset, but it can't be read.
    """
    # Scores may be evaluated where the examples are long gone.
    if not storage.exists(storage.join(dataset, MANIFEST_NAME)):
        return None
    days = read_manifest(dataset).days
    if not days:
        return None
    shown = dict(sorted(days.items())[-_MAX_DAYS:])
    html = paragraph(
        "Which events found their cause, day by day. An orphan click has no impression within the window; an "
        "orphan conversion no click, or only one without an impression; of clicks long "
        "before the day it is not looked for. An event before its cause is the "
        "sign of a clock that is wrong: its id names one that comes within a window after it, or, where "
        "user and item tell, it is an orphan and one of that user and item does."
    )
    html += _warnings(shown) + _clicks(shown) + _conversions(shown) + _losses(shown)
    for kind, title in _NAMES.items():
        html += f"<h3>Seconds from {title}</h3>" + _delays(shown, kind)
    return Section("Join of the event logs", html + "<h3>Most frequent keys</h3>" + _top_keys(shown))


def _warnings(days: dict[str, DayCounts]) -> str:
    rows = [(name, ["; ".join(day.warnings)]) for name, day in days.items() if day.warnings]
    return "<h3>Warnings</h3>" + _table(("what was noticed",), rows) if rows else ""


def _clicks(days: dict[str, DayCounts]) -> str:
    heads = ("impressions", "clicked", "clicks", "matched", "orphans", "before cause")
    rows = []
    for name, day in days.items():
        impressions, clicks = day.join["impressions"], day.join["clicks"]
        matched = _percent(clicks["match_rate"])
        numbers = [clicks["total"], matched, clicks["orphans"], clicks["before_cause"]]
        rows.append((name, [impressions["total"], impressions["clicked"], *numbers]))
    return "<h3>Clicks</h3>" + _table(heads, rows)


def _conversions(days: dict[str, DayCounts]) -> str:
    heads = (
        "impressions converted",
        "conversions",
        "of earlier clicks",
        "matched",
        "orphans",
        "before cause",
    )
    rows = []
    for name, day in days.items():
        conversions = day.join["conversions"]
        lost = conversions["orphans"] + conversions["of_orphan_clicks"]
        matched = _percent(conversions["match_rate"])
        earlier = conversions.get("of_earlier_clicks", 0)
        numbers = [conversions["total"], earlier, matched, lost, conversions["before_cause"]]
        rows.append((name, [day.join["impressions"]["converted"], *numbers]))
    return "<h3>Conversions</h3>" + _table(heads, rows)


def _losses(days: dict[str, DayCounts]) -> str:
    rows = []
    for name, day in days.items():
        rejects = [
            f"{source.name.rpartition('.')[2]}: {reason} {count:,}"
            for source in day.sources
            for reason, count in source.rejects.items()
        ]
        repeats = day.join["repeats"]
        numbers = [repeats["clicks"], repeats["conversions"], day.immature, "; ".join(rejects) or "none"]
        rows.append((name, numbers))
    heads = ("repeated clicks", "repeated conversions", "immature impressions", "rejected lines")
    return "<h3>Repeats and rejects</h3>" + _table(heads, rows)


def _delays(days: dict[str, DayCounts], kind: str) -> str:
    bins: list[str] = []
    for day in days.values():
        bins += [name for name in day.join["delay_s"][kind] if name not in bins]
    bins.sort(key=_end_of_bin)
    rows = []
    for name, day in days.items():
        counts = day.join["delay_s"][kind]
        total = sum(counts.values())
        rows.append((name, [_percent(counts.get(each, 0) / total if total else None) for each in bins]))
    return _table(bins, rows) if bins else paragraph("There are none.")


def _end_of_bin(name: str) -> float:
    sign, _, end = name.partition(" ")
    return float(end) + (sign == ">")


def _top_keys(days: dict[str, DayCounts]) -> str:
    rows = []
    for name, day in days.items():
        cells = []
        for keys in day.join["top_keys"].values():
            top = [f"{key}: {count:,} ({_percent(share)})" for key, count, share in keys[:3]]
            cells.append("; ".join(top) or "none")
        rows.append((name, cells))
    heads = [title.replace("_id", "s", 1) for title in next(iter(days.values())).join["top_keys"]]
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[Any]]]) -> str:
    head = "".join(f'<th class="n">{escape(title)}</th>' for title in heads)
    body = ""
    for name, values in rows:
        cells = "".join(
            f'<td class="n{" long" if isinstance(value, str) else ""}" data-label="{escape(title)}">'
            f"{_text(value)}</td>"
            for title, value in zip(heads, values, strict=True)
        )
        body += f"<tr><th>{escape(name.removeprefix(DAY_PREFIX))}</th>{cells}</tr>\n"
    return (
        f'<div class="scroll"><table><thead><tr><th>Day</th>{head}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>\n"
    )


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{share:.1%}"
