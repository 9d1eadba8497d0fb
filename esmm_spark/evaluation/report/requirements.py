"""Whether the model's metrics are what `evaluate.require` says."""

from esmm_spark.contracts.schemas.requirements import Bounds, Requirement
from esmm_spark.evaluation.measure.estimates import Estimate
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import MODEL
from esmm_spark.evaluation.report.subject import Subject


def requirements_of(subject: Subject, measured: Measurements) -> dict[str, Requirement]:
    """Returns what was required of each metric, what was found, and whether that is enough."""
    return {
        name: _held_against(bounds, measured.estimates[MODEL, name])
        for name, bounds in subject.required.items()
    }


def _held_against(bounds: Bounds, estimate: Estimate) -> Requirement:
    value = estimate.value
    is_met = value is not None and bounds.hold(value)
    return Requirement(
        at_least=bounds.at_least, at_most=bounds.at_most, found=value, is_met=is_met, reason=estimate.reason
    )
