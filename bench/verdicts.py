"""What the quality bench asks of the metrics of several seeds, and how it shows them: no data, no models."""

import math
from statistics import stdev

from scipy.stats import t

COLUMNS = {
    "ctr_auc": "CTR AUC",
    "cvr_auc_clicks": "CVR AUC, clicks",
    "ctcvr_auc": "CTCVR AUC",
    "cvr_auc_entire_space": "CVR AUC, entire space",
    "ctr_calibration": "pCTR / CTR",
    "ctcvr_calibration": "pCTCVR / CTCVR",
}
SERIES = {
    "model": "ESMM",
    "bfloat16": "ESMM, `train.bf16`",
    "unoptimised": "ESMM, unoptimised path",
    "baseline": "BASE",
    "oracle": "oracle",
}
CALIBRATION = (0.9, 1.1)

# Metrics of one series: key -> the value of every seed.
Values = dict[str, list[float]]


def spread(values: list[float]) -> float:
    """Returns the largest less the smallest."""
    return max(values) - min(values)


def mean(values: list[float]) -> float:
    """Returns the mean."""
    return sum(values) / len(values)


def interval(values: list[float]) -> float:
    """Returns half the width of Student's 95% interval of the mean of two or more values."""
    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def judge(found: dict[str, Values]) -> list[tuple[str, bool]]:
    """Returns what is asked of the metrics and whether it is so.

    Args:
        found: series (a key of SERIES) -> metric -> the value of every seed.
    """
    ours, base = (found[name]["cvr_auc_entire_space"] for name in ("model", "baseline"))
    gain, width = mean(ours) - mean(base), max(spread(ours), spread(base))
    verdicts = [
        (f"ESMM - BASE, CVR AUC over the entire space: {gain:+.4f} > spread {width:.4f}", gain > width)
    ]
    low, high = CALIBRATION
    for key in ("ctr_calibration", "ctcvr_calibration"):
        values = found["model"][key]
        shown = ", ".join(f"{value:.3f}" for value in values)
        verdicts.append(
            (f"{COLUMNS[key]} within {low} and {high}: {shown}", all(low <= v <= high for v in values))
        )
    plain = found.get("unoptimised", {})
    for series, title in (("model", ""), ("bfloat16", " with train.bf16")):
        for key in ("ctr_auc", "cvr_auc_clicks", "ctcvr_auc"):
            if key not in plain or series not in found:
                continue
            ours, theirs = found[series][key], plain[key]
            gap, width = abs(mean(ours) - mean(theirs)), max(spread(ours), spread(theirs))
            text = f"{COLUMNS[key]}{title}, unoptimised path: {gap:.4f} <= spread {width:.4f}"
            verdicts.append((text, gap <= width))
    return verdicts


def table(found: dict[str, Values]) -> str:
    """Returns the metrics as a markdown table: mean and half the spread of every series."""
    lines = [
        f"| | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, title in SERIES.items():
        if name not in found:
            continue
        cells = []
        for key in COLUMNS:
            values = found[name].get(key)
            cells.append(f"{mean(values):.4f} ± {spread(values) / 2:.4f}" if values else "")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def collect(by_seed: list[dict[str, dict[str, float]]]) -> dict[str, Values]:
    """Returns series -> metric -> values from what each seed gave."""
    found: dict[str, Values] = {}
    for metrics in by_seed:
        for series, values in metrics.items():
            for key, value in values.items():
                found.setdefault(series, {}).setdefault(key, []).append(value)
    return found
