"""Validation metrics in one line, with the reason where one is missing."""

from collections.abc import Mapping

from esmm_spark.contracts.manifest import PartitionCounts
from esmm_spark.contracts.tasks import Series, Tasks


def metrics_line(
    metrics: Mapping[str, float | None],
    tasks: Tasks,
    validation: str | None,
    counts: PartitionCounts | None,
) -> str:
    """Returns the metrics that are defined, and which labels are missing where an AUC is not.

    Args:
        metrics: of `metrics.metrics_of`; empty where nothing was validated on.
        tasks: what they are of.
        validation: the selection that was validated on; None: the dataset has none.
        counts: what it holds.
    """
    if validation is None or counts is None:
        return "none (the dataset has no validation partition)"
    if not counts.impressions:
        return f"none ({validation} holds no impression)"
    titles = {f"{name}_auc": series.title("AUC") for name, series in tasks.series.items()}
    entire = {name: series for name, series in tasks.series.items() if not series.is_conditional}
    titles |= {f"{name}_calibration": series.title("calibration") for name, series in entire.items()}
    known = [(title, metrics.get(name)) for name, title in titles.items()]
    shown = [f"{title} {value:.4f}" for title, value in known if value is not None]
    shown += [
        f"no {series.title('AUC')}: {_missing_labels(series, tasks, validation, counts)}"
        for name, series in tasks.series.items()
        if metrics.get(f"{name}_auc") is None
    ]
    return ", ".join(shown)


def _missing_labels(series: Series, tasks: Tasks, validation: str, counts: PartitionCounts) -> str:
    """Returns what there is only one class of, where an AUC is not defined."""
    own, parent = counts.positives[series.task], tasks.parent(series.task)
    if series.is_conditional and parent is not None:
        return f"{own:,} of its {counts.positives[parent]:,} impressions with a {parent} have a {series.task}"
    which = "none" if own == 0 else "each"
    return f"{which} of {counts.impressions:,} impressions of {validation} has a {series.task}"
