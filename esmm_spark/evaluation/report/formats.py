"""Formats numbers alike in the terminal and in the report."""

from esmm_spark.contracts.schemas.targets import MetricKind
from esmm_spark.evaluation.measure.estimates import Estimate
from esmm_spark.evaluation.measure.metrics import METRICS

NO_INTERVAL = "interval n/a"


def number(kind: MetricKind, value: float, signed: bool = False) -> str:
    """Returns `0.7312`, or `+0.0123` where `signed`, with the decimals of its kind of metric."""
    return f"{value:{'+' if signed else ''}.{METRICS[kind].decimals}f}"


def value_of(kind: MetricKind, estimate: Estimate, signed: bool = False) -> str:
    """Returns the value, or `n/a (why)`."""
    if estimate.value is None:
        return f"n/a ({estimate.reason})"
    return number(kind, estimate.value, signed)


def interval_of(kind: MetricKind, estimate: Estimate, signed: bool = False) -> str:
    """Returns `0.7201 to 0.7423`, `interval n/a` where resamples say nothing, or nothing where none are."""
    interval = estimate.interval
    if interval is None:
        return "" if estimate.value is None or len(estimate.replicates) == 0 else NO_INTERVAL
    return " to ".join(number(kind, end, signed) for end in interval)
