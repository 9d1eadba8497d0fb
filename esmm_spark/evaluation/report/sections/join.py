"""The section about the join of event logs, day by day: what events/join_report.py put into the manifest."""

from collections.abc import Mapping

from esmm_spark.contracts.manifest import DayCounts
from esmm_spark.contracts.schemas.layout import DAY_PREFIX, MANIFEST_NAME
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.pages.page import PageSection, Table

_MAX_DAYS = 31
_TEXT = (
    "Which events found their cause, day by day. An orphan has no impression within the window or, of a task "
    "that is given another, no event of that one, or only an orphan. Causes long before the day are not "
    "looked for. An event before its cause is the sign of a clock that is wrong: its id names one that comes "
    "within a window after it, or, where user and item tell, it is an orphan and one of that user and item "
    "does."
)

_Days = Mapping[str, DayCounts]


def read_days(dataset: str) -> dict[str, DayCounts]:
    """Returns the newest 31 days of a dataset of event logs, in their order; none of any other dataset.

    Raises:
        InputError, IncompleteError, UnsafeFileError: there is a dataset, but it can't be read.
    """
    # Scores may be evaluated where the examples are long gone.
    if not storage.exists(storage.join(dataset, MANIFEST_NAME)):
        return {}
    days = read_manifest(dataset).days or {}
    return dict(sorted(days.items())[-_MAX_DAYS:])


def section(subject: Subject, measured: Measurements) -> PageSection | None:
    """Returns the tables of the days; None where the dataset isn't of event logs."""
    days = subject.days
    if not days:
        return None
    reversals = dict.fromkeys(name for day in days.values() for name in day.join.get("reversals", {}))
    tables = [*(_matches(days, log) for log in _logs(days)), *(_reversals(days, log) for log in reversals)]
    if any(day.join.get("catalogs") for day in days.values()):
        tables.append(_catalogs(days))
    tables.append(_losses(days))
    if any(day.warnings for day in days.values()):
        tables.insert(0, _warnings(days))
    tables += [_delays(days, log) for log in _logs(days)]
    values = {"texts": [_TEXT], "tables": [*tables, _top_keys(days)]}
    return PageSection("Join of the event logs", "tables.html", values)


def _table(heading: str, heads: list[str], lines: Mapping[str, list[int | str]]) -> Table:
    return Table(
        ["Day", *heads], [(name.removeprefix(DAY_PREFIX), cells) for name, cells in lines.items()], heading
    )


def _warnings(days: _Days) -> Table:
    lines: dict[str, list[int | str]] = {
        name: ["; ".join(day.warnings)] for name, day in days.items() if day.warnings
    }
    return _table("Warnings", ["what was noticed"], lines)


def _logs(days: _Days) -> list[str]:
    """Returns the logs of events, in the order of their tasks."""
    return [name for day in list(days.values())[:1] for name in day.join["delay_s"]]


def _matches(days: _Days, log: str) -> Table:
    heads = [f"impressions with {log}", log, "of earlier causes", "matched", "orphans", "before cause"]
    lines: dict[str, list[int | str]] = {}
    for name, day in days.items():
        counts = day.join[log]
        numbers = [
            counts["total"],
            counts["of_earlier_causes"],
            _percent(counts["match_rate"]),
            counts["orphans"] + counts["of_orphan_causes"],
            counts["before_cause"],
        ]
        lines[name] = [day.join["impressions"][f"with_{log}"], *numbers]
    return _table(log.capitalize(), heads, lines)


def _reversals(days: _Days, log: str) -> Table:
    cells: dict[str, list[int | str]] = {}
    for name, day in days.items():
        counts = day.join.get("reversals", {}).get(log, {"total": 0, "matched": 0})
        total = counts["total"]
        cells[name] = [total, _percent(counts["matched"] / total if total else None)]
    return _table(f"Events that {log} take back", [log, "matched"], cells)


def _catalogs(days: _Days) -> Table:
    """Returns the share of impressions of which each catalog has an entry."""
    numbers = sorted({number for day in days.values() for number in day.join.get("catalogs", {})}, key=int)
    cells: dict[str, list[int | str]] = {}
    for name, day in days.items():
        found, total = day.join.get("catalogs", {}), day.join["impressions"]["total"]
        known = [found[number] / total if number in found and total else None for number in numbers]
        cells[name] = [_percent(share) for share in known]
    return _table("Impressions of which a catalog has an entry", [f"catalogs.{n}" for n in numbers], cells)


def _losses(days: _Days) -> Table:
    logs = _logs(days)
    repeated = [f"repeated {log}" for log in logs]
    heads = ["impressions", *repeated, "immature impressions", "rejected lines"]
    lines: dict[str, list[int | str]] = {}
    for name, day in days.items():
        rejects = [
            f"{source.name.rpartition('.')[2]}: {reason} {count:,}"
            for source in day.sources
            for reason, count in source.rejects.items()
        ]
        total, repeats = day.join["impressions"]["total"], day.join["repeats"]
        of_logs = [repeats[log] for log in logs]
        lines[name] = [total, *of_logs, day.immature, "; ".join(rejects) or "none"]
    return _table("Repeats and rejects", heads, lines)


def _delays(days: _Days, log: str) -> Table:
    bins: list[str] = []
    for day in days.values():
        bins += [name for name in day.join["delay_s"][log] if name not in bins]
    bins.sort(key=_end_of_bin)
    lines: dict[str, list[int | str]] = {}
    for name, day in days.items():
        counts = day.join["delay_s"][log]
        total = sum(counts.values())
        lines[name] = [_percent(counts.get(each, 0) / total if total else None) for each in bins]
    return _table(f"Seconds from cause to event: {log}", bins, lines)


def _end_of_bin(name: str) -> float:
    sign, _, end = name.partition(" ")
    return float(end) + (sign == ">")


def _top_keys(days: _Days) -> Table:
    lines: dict[str, list[int | str]] = {}
    for name, day in days.items():
        lines[name] = [
            "; ".join(f"{key}: {count:,} ({_percent(share)})" for key, count, share in keys[:3]) or "none"
            for keys in day.join["top_keys"].values()
        ]
    heads = [title.replace("_id", "s", 1) for title in next(iter(days.values())).join["top_keys"]]
    return _table("Most frequent keys", heads, lines)


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{share:.1%}"
