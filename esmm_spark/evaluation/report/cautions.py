"""Warnings of an evaluation, for report, terminal and metrics.json: scores that are miscalibrated."""

from esmm_spark.evaluation.measure.estimates import LEVEL, Estimate
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import MODEL
from esmm_spark.evaluation.report import formats
from esmm_spark.evaluation.report.subject import Subject

# A ratio within is what a model of a day before gives on other traffic; one beyond moves a bid by as much.
CALIBRATED = (0.9, 1.1)


def is_miscalibrated(ratio: Estimate) -> bool:
    """Returns whether a calibration ratio is out of CALIBRATED, and not by chance.

    Not by chance: its interval leaves out 1. Where there is none, the ratio alone decides.
    """
    if ratio.value is None or CALIBRATED[0] <= ratio.value <= CALIBRATED[1]:
        return False
    interval = ratio.interval
    return interval is None or not interval[0] <= 1 <= interval[1]


def warnings_of(subject: Subject, measured: Measurements) -> list[str]:
    """Returns a sentence for each score of the model that is miscalibrated."""
    found = []
    for target in measured.targets:
        ratio = measured.estimate(MODEL, target, "calibration")
        if not is_miscalibrated(ratio):
            continue
        interval = formats.interval_of("calibration", ratio)
        beside = f" ({LEVEL:.0%} interval {interval})" if ratio.interval is not None else " (no interval)"
        found.append(
            f"{target.title}: {subject.names[MODEL]}'s {target.score} add up to "
            f"{formats.value_of('calibration', ratio)} times the labels{beside}: a bid computed from them is "
            "off by that factor"
        )
    return found


def why_no_interval(measured: Measurements) -> str | None:
    """Returns why some metric of the model that has a value has no interval; None where each has one."""
    if measured.num_groups == 1:
        return "all impressions are of one context, and contexts are what is resampled"
    estimates = (estimate for (series, _), estimate in measured.estimates.items() if series == MODEL)
    reasons = {
        estimate.interval_reason
        for estimate in estimates
        if estimate.value is not None and len(estimate.replicates) and estimate.interval is None
    }
    return "; ".join(sorted(reason for reason in reasons if reason)) or None
