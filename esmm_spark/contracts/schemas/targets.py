"""What metrics are of, and how they are called: targets, which follow from the tasks, and kinds of metrics.

The default tasks, click and conversion given click, have four:

    target             score    label                    over
    ctr                pctr     click                    impressions with a known click label
    cvr_clicks         pcvr     conversion               those with click 1
    ctcvr              pctcvr   conversion               impressions with a known conversion label
    cvr_entire_space   pcvr     conversion_if_clicked    all impressions; only the simulator's truth knows it

An unknown label of a task whose parent's label is 0 is 0: what wasn't clicked did not convert.

Source: Ma et al., "Entire Space Multi-Task Model", SIGIR 2018, section 3.3, for evaluating CVR on clicked
impressions and CTCVR on all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from esmm_spark.contracts.schemas.task_columns import truth_label
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks, called, plural, series_name

MetricKind = str
# Kind of metric -> which of two values is the better one, None where neither is; in the report's order.
BETTER: Mapping[MetricKind, Literal["higher", "lower"] | None] = {
    "auc": "higher",
    "log_loss": "lower",
    "calibration": None,
    "gauc": "higher",
}
KINDS: tuple[MetricKind, ...] = tuple(BETTER)

# GAUC asks how one context's impressions are ordered: of clicked ones a context has too few.
_CONDITIONAL_KINDS = tuple(kind for kind in KINDS if kind != "gauc")


@dataclass(frozen=True)
class Target:
    """One label, the impressions that it is asked of, and the score that predicts it.

    Args:
        rate: what is predicted, e.g. `cvr`.
        population: over which impressions, e.g. `clicks`; empty where all with a label count.
        title: how people read it.
        score: the score's column, e.g. `pcvr`.
        label: the label's column: a task's, or one of the truth.
        where: the label's column that must be 1 for an impression to count; None where all count.
        kinds: the metrics that are computed.
        needs_truth: whether only the simulator's truth has the label.
    """

    rate: str
    population: str
    title: str
    score: str
    label: str
    where: str | None = None
    kinds: tuple[MetricKind, ...] = KINDS
    needs_truth: bool = False

    @property
    def name(self) -> str:
        """How results are keyed, e.g. `cvr_clicks`."""
        return f"{self.rate}_{self.population}" if self.population else self.rate

    def metric(self, kind: MetricKind) -> str:
        """Returns the metric's key in metrics.json, e.g. `cvr_auc_clicks` of target `cvr_clicks`."""
        return f"{self.rate}_{kind}_{self.population}" if self.population else f"{self.rate}_{kind}"


def targets_of(tasks: Tasks) -> tuple[Target, ...]:
    """Returns the targets of all tasks, parents before children; those that need the truth come last.

    A root `r` has the target `r`; a task `t` given `p` has `t_on_p`, its conditional probability over the
    impressions whose label of `p` is 1, `entire_t` over all, and with the truth `t_entire_space`. Those of
    click and conversion are called as the paper calls them.
    """
    targets: list[Target] = []
    with_truth: list[Target] = []
    for name in tasks.names:
        parent, columns = tasks.parent(name), tasks.score_columns(name)
        rate, entire = series_name(columns.conditional), series_name(columns.entire)
        series, title = tasks.series[rate], tasks.series[entire].title()
        if parent is None:
            targets.append(Target(rate, "", title, columns.conditional, name))
            continue
        # The metrics of before there were other tasks are `cvr_auc_clicks`.
        on = plural(parent) if called(columns.conditional) else f"on_{parent}"
        targets += [
            Target(rate, on, series.title(), columns.conditional, name, parent, _CONDITIONAL_KINDS),
            Target(entire, "", title, columns.entire, name),
        ]
        with_truth.append(
            Target(
                rate,
                "entire_space",
                f"{series.called} over the entire space",
                columns.conditional,
                truth_label(tasks, name),
                None,
                _CONDITIONAL_KINDS,
                needs_truth=True,
            )
        )
    return (*targets, *with_truth)


TARGETS = targets_of(DEFAULT_TASKS)
