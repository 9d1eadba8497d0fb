"""metrics.json: every number of the report, for programs.

    {"format_version": 1,
     "partition": "split=test", "dataset": ..., "scores": ..., "model_version": "000001-3f9a12bc",
     "baseline": {"name": "BASE", "scores": ..., "model_version": ...},          null without one
     "truth": ...,                                                               null without one
     "names": {"model": "ESMM", "baseline": "BASE", "oracle": "oracle"},
     "counts": {"impressions", "unlabelled", "groups", "clicks", "conversions"},    and more tasks likewise
     "bootstrap": {"samples": 200, "seed": 42, "level": 0.95},
     "metrics": {"model": {"ctr_auc": {"value", "low", "high", "impressions", "positives"}, ...}, ...},
     "warnings": ["CTCVR: ESMM's pctcvr add up to 1.490 times the labels ...", ...],
     "requirements": {"ctcvr_auc": {"at_least", "at_most", "found", "is_met", "reason"}, ...},
     "differences": {"ctr_auc": {"value", "low", "high"}, ...},                  model - baseline
     "curves": {"model": {"ctr": {"roc": {"false_positive_rate": [...], "true_positive_rate": [...]},
                                  "calibration": [{"impressions", "positives", "mean_score", "rate", ...}],
                                  "histogram": {"log_odds": [...], "negatives": [...], "positives": [...]}}}}}

A metric that isn't defined has value, low and high null, and a `reason`; one without an interval low and high
null, and an `interval_reason`. The metrics' keys: `ctr_auc`,
`cvr_auc_clicks`, `cvr_auc_entire_space`, `ctcvr_auc`; likewise `_log_loss`, `_calibration`, and for `ctr` and
`ctcvr` `_gauc`.
"""

import json
from dataclasses import asdict
from typing import Any

from esmm_spark.evaluation.measure.estimates import LEVEL
from esmm_spark.evaluation.measure.measurement import Curves, Measurements
from esmm_spark.evaluation.measure.targets import BASELINE
from esmm_spark.evaluation.report.cautions import warnings_of
from esmm_spark.evaluation.report.requirements import requirements_of
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.evaluation.report.words import counts_of_tasks

METRICS_VERSION = 1


def metrics_json(subject: Subject, measured: Measurements) -> str:
    """Returns the content of metrics.json."""
    positives = {
        f"{task}s": counts.positives for task, counts in counts_of_tasks(measured, subject.tasks).items()
    }
    metrics: dict[str, Any] = {series: {} for series in measured.series}
    for (series, key), estimate in measured.estimates.items():
        metrics[series][key] = estimate.as_dict()
    curves: dict[str, Any] = {series: {} for series in measured.series}
    for ranking, found in measured.curves.items():
        curves[ranking.series][ranking.target.name] = _curves(found)
    content = {
        "format_version": METRICS_VERSION,
        "partition": subject.partition,
        "dataset": subject.dataset,
        "scores": subject.scores,
        "model_version": subject.model_version,
        "baseline": _baseline(subject),
        "truth": subject.truth,
        "names": dict(subject.names),
        "counts": {
            "impressions": measured.num_impressions,
            "unlabelled": measured.num_unlabelled,
            "groups": measured.num_groups,
            **positives,
        },
        "bootstrap": {"samples": subject.num_samples, "seed": subject.seed, "level": LEVEL},
        "metrics": metrics,
        "warnings": warnings_of(subject, measured),
        "requirements": {
            name: found.model_dump() for name, found in requirements_of(subject, measured).items()
        },
        "differences": {key: estimate.as_dict() for key, estimate in measured.differences.items()},
        "curves": curves,
    }
    # NaN is no JSON: what isn't defined is null.
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _baseline(subject: Subject) -> dict[str, str | None] | None:
    if subject.baseline_scores is None:
        return None
    return {
        "name": subject.names[BASELINE],
        "scores": subject.baseline_scores,
        "model_version": subject.baseline_version,
    }


def _curves(curves: Curves) -> dict[str, Any]:
    false_rate, true_rate = curves.roc
    return {
        "roc": {"false_positive_rate": false_rate.tolist(), "true_positive_rate": true_rate.tolist()},
        "calibration": [asdict(point) for point in curves.calibration],
        "histogram": {
            "log_odds": curves.histogram.edges.tolist(),
            "negatives": curves.histogram.negatives.tolist(),
            "positives": curves.histogram.positives.tolist(),
        },
    }
