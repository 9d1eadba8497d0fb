"""What a model's metrics must be for it to be used: `evaluate.require`; in metrics.json, whether they are.

    require: {ctcvr_auc: 0.6, ctr_log_loss: 0.2, ctr_calibration: [0.9, 1.1]}

A number is the worst that is good enough: the least of a metric of which more is better, the most of one of
which less is. Two numbers are a range, both ends in it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict

from esmm_spark.contracts.schemas.targets import BETTER, targets_of
from esmm_spark.contracts.tasks import Tasks


class Bounds(NamedTuple):
    """The least and the most that a metric may be; None where there is none."""

    at_least: float | None
    at_most: float | None

    def hold(self, value: float) -> bool:
        """Returns whether a value lies within them."""
        too_low = self.at_least is not None and value < self.at_least
        return not too_low and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        """Returns `at least 0.6`, or `from 0.9 to 1.1`."""
        if self.at_least is not None and self.at_most is not None:
            return f"from {self.at_least:g} to {self.at_most:g}"
        return f"at most {self.at_most:g}" if self.at_least is None else f"at least {self.at_least:g}"


class Requirement(BaseModel):
    """One metric that was required, as metrics.json has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_least: float | None
    at_most: float | None
    found: float | None
    is_met: bool
    reason: str | None = None

    def told(self, metric: str) -> str:
        """Returns `ctcvr_auc = 0.55340: required is at least 0.6`."""
        required = f"required is {Bounds(self.at_least, self.at_most)}"
        if self.found is None:
            return f"{metric} isn't defined ({self.reason}): {required}"
        return f"{metric} = {self.found:.5f}: {required}"


def _bound(value: Any) -> Any:
    numbers = value if isinstance(value, list) else [value]
    is_number = all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
    if not is_number or (isinstance(value, list) and len(value) != 2):
        raise ValueError("must be a number, the worst that is good enough, or a range of two, [0.9, 1.1]")
    if isinstance(value, list) and value[0] > value[1]:
        raise ValueError("a range begins with its lower end")
    return [float(n) for n in numbers] if isinstance(value, list) else float(value)


# As a config has it.
Bound = Annotated[float | list[float], BeforeValidator(_bound)]


def bounds_of(require: Mapping[str, Bound], tasks: Tasks, has_truth: bool) -> dict[str, Bounds]:
    """Returns metric -> what it must be, of what `evaluate.require` says.

    Args:
        require: metric of metrics.json -> bound.
        tasks: what is predicted, from which the metrics follow.
        has_truth: whether the simulator's truth is known, and what needs it is measured.

    Raises:
        ValueError: there is no such metric, or a number doesn't say which side of it is good enough.
    """
    kinds = {t.metric(kind): (t, kind) for t in targets_of(tasks) for kind in t.kinds}
    found = {}
    for name, bound in require.items():
        if name not in kinds:
            known = [metric for metric, (target, _) in kinds.items() if has_truth or not target.needs_truth]
            raise ValueError(f"evaluate.require has no metric {name!r}: allowed are {', '.join(known)}")
        target, kind = kinds[name]
        if target.needs_truth and not has_truth:
            raise ValueError(f"evaluate.require {name} needs the simulator's truth: set evaluate.truth")
        if isinstance(bound, list):
            found[name] = Bounds(*bound)
        elif (better := BETTER[kind]) is None:
            raise ValueError(
                f"evaluate.require {name} = {bound:g}: neither more nor less of it is better: give a range, "
                "such as [0.9, 1.1]"
            )
        else:
            found[name] = Bounds(bound, None) if better == "higher" else Bounds(None, bound)
    return found
