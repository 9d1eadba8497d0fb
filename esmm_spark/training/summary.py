"""Validation metrics as a line for people, which says why a metric is missing."""

from collections.abc import Mapping

from esmm_spark.contracts.manifest import PartitionCounts

_TITLES = {
    "ctr_auc": "CTR AUC",
    "cvr_auc": "CVR AUC on clicks",
    "ctcvr_auc": "CTCVR AUC",
    "ctr_calibration": "CTR calibration",
    "ctcvr_calibration": "CTCVR calibration",
}


def metrics_line(
    metrics: Mapping[str, float | None], validation: str | None, counts: PartitionCounts | None
) -> str:
    """Returns the metrics that are defined, and which labels are missing where an AUC is not.

    Args:
        metrics: of `metrics.metrics_of`; empty where nothing was validated on.
        validation: the selection that was validated on; None: the dataset has none.
        counts: what it holds.
    """
    if validation is None or counts is None:
        return "none (the dataset has no validation partition)"
    if not counts.impressions:
        return f"none ({validation} holds no impression)"
    known = [(title, metrics.get(name)) for name, title in _TITLES.items()]
    shown = [f"{title} {value:.4f}" for title, value in known if value is not None]
    shown += [
        f"no {_TITLES[name]}: {why}"
        for name, why in _missing_labels(validation, counts).items()
        if metrics.get(name) is None
    ]
    return ", ".join(shown)


def _missing_labels(validation: str, counts: PartitionCounts) -> dict[str, str]:
    """Returns metric -> what there is only one class of, for each AUC."""
    where = f"of {counts.impressions:,} impressions of {validation}"
    clicks, conversions = counts.positives["click"], counts.positives["conversion"]
    return {
        "ctr_auc": f"{'none' if clicks == 0 else 'each'} {where} is clicked",
        "cvr_auc": f"{conversions:,} of its {clicks:,} clicks convert",
        "ctcvr_auc": f"{'none' if conversions == 0 else 'each'} {where} is converted",
    }
