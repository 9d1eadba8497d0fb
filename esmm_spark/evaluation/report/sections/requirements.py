"""The section on what was required of the model, and whether it is met; none where nothing was."""

from esmm_spark.contracts.schemas.requirements import Bounds
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.report.requirements import requirements_of
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.pages.page import PageSection, Table


def section(subject: Subject, measured: Measurements) -> PageSection | None:
    """Returns a table with a line per required metric; None where none is required."""
    found = requirements_of(subject, measured)
    if not found:
        return None
    lines: list[tuple[str, list[int | str]]] = [
        (
            name,
            [
                str(Bounds(of.at_least, of.at_most)),
                f"{of.found:.5f}" if of.found is not None else f"none: {of.reason}",
                "yes" if of.is_met else "no",
            ],
        )
        for name, of in found.items()
    ]
    unmet = sum(not of.is_met for of in found.values())
    text = f"{unmet} of {len(found)} are not met." if unmet else "All are met."
    values = {"texts": [text], "tables": [Table(["Metric", "required", "found", "met"], lines)]}
    return PageSection("Requirements", "tables.html", values)
