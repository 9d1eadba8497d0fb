"""Facts of columns, written by hand."""

from typing import Any

from esmm_spark.profile.counts.facts import ColumnFacts

LINES = 10_000


def column(name: str, **counts: Any) -> ColumnFacts:
    """Returns a column of LINES lines and 100 distinct values."""
    found = {"type": "string", "shape": "value", "lines": LINES, "missing": 0, "distinct": 100, **counts}
    return ColumnFacts(name=name, **{"values": LINES - found["missing"], **found})


def flag(name: str, ones: int, missing: int = 0) -> ColumnFacts:
    """Returns a column of 0 and 1."""
    return column(name, distinct=2, missing=missing, flags=LINES - missing, ones=ones)
