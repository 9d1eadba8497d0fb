"""The section of training curves, as the model's folder has them."""

from typing import Any

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from esmm_spark.contracts.schemas.records import TrainHistory
from esmm_spark.contracts.tasks import Tasks, noun
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import MODEL
from esmm_spark.evaluation.report import drawing
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.pages import plots
from esmm_spark.pages.page import Figure, FigureGroup, PageSection

_MAX_CURVE_POINTS = 1000
_LEGEND_COLUMNS = 2
# Colour and marker of a line, series after series.
_LINES = (
    ("#009E73", "o"),
    ("#AA4499", "s"),
    ("#B57700", "D"),
    ("#0072B2", "^"),
    ("#D55E00", "v"),
    ("#5B6470", "P"),
    ("#56B4E9", "X"),
)


def section(subject: Subject, measured: Measurements) -> PageSection:
    """Returns loss, validation AUCs and speed, as far as there are any."""
    history = subject.history
    if history is None:
        text = (
            f"No training curves: {subject.history_note}. They lie in the model version, below paths.model."
        )
        return PageSection("Training", "figures.html", {"texts": [text], "groups": [], "missing": []})
    figures = []
    if history.steps:
        caption = "all terms of the loss together"
        figures.append(Figure(_loss_plot(history), "Training loss", caption))
    if _auc_names(history):
        caption = "on contexts set aside from training"
        figures.append(Figure(_validation_plot(history, subject.tasks), "Validation AUC", caption))
    if history.steps:
        figures.append(Figure(_speed_plot(history), "Speed", "over all ranks"))
    values = {"texts": [], "groups": [FigureGroup(figures)], "missing": []}
    return PageSection("Training", "figures.html", values)


def _auc_names(history: TrainHistory) -> list[str]:
    """Returns what AUCs are of in any epoch: `ctr`, `cvr`, `ctcvr`."""
    return list(dict.fromkeys(name for epoch in history.epochs for name in epoch.aucs))


def _loss_plot(history: TrainHistory) -> Markup:
    """Returns the training loss by step, with the ends of epochs."""
    steps = history.steps[:: 1 + len(history.steps) // _MAX_CURVE_POINTS]

    def draw(axes: Any) -> None:
        axes.plot(
            [s.step for s in steps], [s.loss for s in steps], color=drawing.COLOURS[MODEL], linewidth=1.4
        )
        for epoch in history.epochs:
            axes.axvline(epoch.step, color="#B8C0CA", linewidth=1, linestyle=(0, (2, 2)))
        axes.set_xlabel("step (dashed: end of an epoch)")
        axes.set_ylabel("training loss (nats)")
        plots.thousands(axes.xaxis)

    return plots.svg(draw, "Training loss by step", height=2.8)


def _validation_plot(history: TrainHistory, tasks: Tasks) -> Markup:
    """Returns the validation AUCs by epoch, a line per series."""
    names = _auc_names(history)
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*tasks.series, *names]))}

    def draw(axes: Any) -> None:
        for name in names:
            known = [epoch for epoch in history.epochs if epoch.aucs.get(name) is not None]
            values = [epoch.aucs[name] for epoch in known]
            label = tasks.series[name].title() if name in tasks.series else noun(name)
            colour, marker = _LINES[numbers[name] % len(_LINES)]
            epochs = [epoch.epoch + 1 for epoch in known]
            axes.plot(epochs, values, color=colour, marker=marker, markersize=5, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation AUC")
        axes.margins(x=0.08, y=0.1)
        # Below the axes: there may be many series, with long names.
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.25), ncols=_LEGEND_COLUMNS, handlelength=1.2)

    legend_lines = -(-len(names) // _LEGEND_COLUMNS)
    return plots.svg(draw, "Validation AUC by epoch", height=2.8 + 0.2 * legend_lines)


def _speed_plot(history: TrainHistory) -> Markup:
    """Returns the impressions per second by step."""
    steps = history.steps[:: 1 + len(history.steps) // _MAX_CURVE_POINTS]

    def draw(axes: Any) -> None:
        speeds = [step.impressions_per_s for step in steps]
        axes.plot([step.step for step in steps], speeds, color=plots.INK, linewidth=1.2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("step")
        axes.set_ylabel("impressions per second")
        plots.thousands(axes.xaxis)
        plots.thousands(axes.yaxis)

    return plots.svg(draw, "Training speed by step", height=2.8)
