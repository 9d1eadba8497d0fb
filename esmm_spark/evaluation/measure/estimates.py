"""A metric's value with its bootstrap replicates, and the intervals and differences that follow from them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95  # of every interval

# A percentile of fewer replicates than this share of those drawn would describe the resamples that happened
# to work.
_MIN_DEFINED = 0.5
# Replicates that differ by less differ by the order of summation.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A metric: its value on the data and on each bootstrap sample.

    Args:
        value: the metric, or None where it isn't defined.
        replicates: `[B]` float64, NaN where a resample leaves the metric undefined (one class only).
        reason: why there is no value.
        counts: what the value was computed over, e.g. `{"impressions": 900, "positives": 40}`.
    """

    value: float | None
    replicates: NDArray[np.float64]
    reason: str | None = None
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% percentile interval of the replicates, or None where they say nothing (`interval_reason`).

        Source: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentile
            interval).
        """
        return self._ends() if self.interval_reason is None else None

    @property
    def interval_reason(self) -> str | None:
        """Why there is no interval, or None where there is one.

        Resamples that all give the same show nothing of what other traffic would give: with one context there
        is nothing to resample, and an AUC of 1 in each of them comes of too few impressions.
        """
        if self.value is None:
            return "there is no value"
        num_defined = int(np.isfinite(self.replicates).sum())
        if len(self.replicates) == 0:
            return "evaluate.bootstrap_samples is 0"
        if num_defined == 0 or num_defined < _MIN_DEFINED * len(self.replicates):
            return f"defined in {num_defined} of {len(self.replicates)} resamples"
        low, high = self._ends()
        return "all resamples are alike" if high - low <= _ROUNDING * max(1.0, abs(self.value)) else None

    def _ends(self) -> tuple[float, float]:
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(self.replicates[np.isfinite(self.replicates)], [tail, 1 - tail])
        return float(low), float(high)

    def as_dict(self) -> dict[str, float | int | str | None]:
        """Returns what metrics.json says: value, low, high, counts, and why there is no value or interval."""
        interval, why = self.interval, self.interval_reason
        low, high = interval if interval is not None else (None, None)
        return {
            "value": self.value,
            "low": low,
            "high": high,
            **self.counts,
            **({"reason": self.reason} if self.reason else {}),
            **({"interval_reason": why} if why and self.value is not None else {}),
        }


def ratio(
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
    reason_if_undefined: str,
    counts: dict[str, int],
) -> Estimate:
    """Returns the estimate numerator / denominator.

    Args:
        numerators: `[1 + B]`, column 0 on the data itself, the others on the bootstrap samples.
        denominators: `[1 + B]`; the ratio is undefined where one is 0.
        reason_if_undefined: says why, where the data's own denominator is 0.
        counts: what the ratio was computed over.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(denominators > 0, numerators / denominators, np.nan)
    if np.isnan(values[0]):
        return Estimate(None, values[1:], reason_if_undefined, counts)
    return Estimate(float(values[0]), values[1:], None, counts)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Returns `first - second`, paired: replicate b of both was drawn with the same weights."""
    if first.value is None or second.value is None:
        return Estimate(None, np.full_like(first.replicates, np.nan), first.reason or second.reason)
    return Estimate(first.value - second.value, first.replicates - second.replicates)
