"""The report of other tasks than click and conversion: all of it follows from them."""

import json
from dataclasses import replace

import pytest

from esmm_spark.contracts.schemas.records import EpochRecord, TrainHistory
from esmm_spark.contracts.schemas.targets import TARGETS, Target, targets_of
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.metrics import METRICS
from esmm_spark.evaluation.measure.targets import LabelCounts, Ranking
from esmm_spark.evaluation.report import report
from esmm_spark.evaluation.report.sections import training
from esmm_spark.evaluation.report.summary import metrics_json
from esmm_spark.evaluation.report.words import meaning_of, words_of
from tests.evaluation.report.test_report import ALL, measured, page_with_blank_plots, shown, subject

FUNNEL = Tasks.model_validate(
    {"click": {}, "conversion": {"given": "click"}, "re_buy": {"given": "conversion"}, "like": {}}
)
# P(re_buy | conversion), P(re_buy), P(like), and what the truth knows of re_buy.
MORE = tuple(target for target in targets_of(FUNNEL) if target not in TARGETS)
ON_PARENT, ENTIRE, LIKE, IF_PARENT = MORE


def with_more_tasks() -> Measurements:
    """Returns the made-up numbers of click and conversion, and those of CTR for each target more."""
    numbers = measured()
    ctr = next(target for target in numbers.targets if target.name == "ctr")
    estimates, differences = {}, {}
    curves = {Ranking(name, target): numbers.curves[Ranking(name, ctr)] for name in ALL for target in MORE}
    for target in MORE:
        for kind in target.kinds:
            differences[target.metric(kind)] = numbers.differences[ctr.metric(kind)]
            for name in ALL:
                estimates[name, target.metric(kind)] = numbers.estimate(name, ctr, kind)
    labels = {target.name: LabelCounts(1000 * (1 + n), 100 + n) for n, target in enumerate(MORE)}
    return replace(
        numbers,
        targets=(*numbers.targets, *MORE),
        labels={**numbers.labels, **labels},
        estimates={**numbers.estimates, **estimates},
        differences={**numbers.differences, **differences},
        curves={**numbers.curves, **curves},
    )


@pytest.fixture(scope="module")
def html() -> str:
    return page_with_blank_plots(subject(tasks=FUNNEL), with_more_tasks())


def test_each_task_has_a_tile_with_its_rate_of_its_parents_positives(html: str) -> None:
    tiles = html.partition('<dl class="tiles">')[2].partition("</dl>")[0]
    for tile in (
        "<dt>Clicks</dt><dd>678<small>CTR 5.49%</small>",
        "<dt>Conversions</dt><dd>678<small>CVR 5.49% of clicks</small>",
        "<dt>Re buys</dt><dd>100<small>10.0% of conversions</small>",
        "<dt>Likes</dt><dd>102<small>3.40% of impressions</small>",
    ):
        assert tile in tiles


def test_each_target_has_its_row_its_plots_and_its_meaning(html: str) -> None:
    for target in MORE:
        assert html.count(f"<tr><th>{target.title}</th>\n<td") == len(target.kinds)
        for plot in ("AUC with 95% intervals", "ROC curves", "calibration curve"):
            assert f'aria-label="{target.title}: {plot}"' in html
        assert f'aria-label="ESMM, {target.title}: histogram of scores by label"' in html
    assert html.count("<figure>") == (4 + len(MORE)) * 5 + 3


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (ON_PARENT, "an impression with conversion that led to re buy is scored above one that did not."),
        (ENTIRE, "an impression that led to re buy is scored above one that did not."),
        (LIKE, "an impression that led to like is scored above one that did not."),
        (
            IF_PARENT,
            "an impression that would lead to re buy after conversion is scored above one that would ",
        ),
    ],
)
def test_a_metric_of_any_task_says_what_it_means(target: Target, expected: str) -> None:
    assert expected in meaning_of(target, "auc", FUNNEL)


def test_scores_are_called_by_what_they_are_the_probability_of() -> None:
    assert [words_of(target, FUNNEL).score for target in MORE] == [
        "P(re buy | conversion)", "P(re buy)", "P(like)", "P(re buy | conversion)"
    ]  # fmt: skip


def test_metrics_json_and_the_terminal_count_every_task() -> None:
    counts = json.loads(metrics_json(subject(tasks=FUNNEL), with_more_tasks()))["counts"]
    assert {name: counts[name] for name in ("clicks", "conversions", "re_buys", "likes")} == {
        "clicks": 678, "conversions": 678, "re_buys": 100, "likes": 102
    }  # fmt: skip
    text = shown(subject(tasks=FUNNEL), with_more_tasks(), width=200)
    assert "678 clicks, 678 conversions, 100 re buys, 102 likes, model 000001-aaaa" in text
    assert "re buy on conversions" in text
    measurements = with_more_tasks()
    narrow = shown(subject(tasks=FUNNEL), measurements, width=100)
    kinds = [kind for target in measurements.targets for kind in target.kinds]
    assert narrow.count("0.7500 ±0.0095") == sum(METRICS[kind].decimals == 4 for kind in kinds)
    assert "…" not in narrow


def test_validation_curves_are_drawn_of_whatever_the_training_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    epochs = [EpochRecord.model_validate({"epoch": e, "step": e, "re_buy_auc": 0.7}) for e in (1, 2)]
    history = TrainHistory(
        epochs=[*epochs, EpochRecord.model_validate({"epoch": 3, "step": 3, "re_buy_auc": None})]
    )
    assert [list(epoch.aucs) for epoch in history.epochs] == [["re_buy"], ["re_buy"], []]
    monkeypatch.setattr(report, "SECTIONS", (training.section,))
    html = report.report_html(subject(history=history), measured(("model",)))
    assert ">re buy</text>" in html
