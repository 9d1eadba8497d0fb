"""`evaluate.require`: which metrics there are, and what a bound of one means."""

from pathlib import Path

import pytest

from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.schemas.requirements import Bounds, Requirement, bounds_of
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Task, Tasks
from tests.repository import ROOT

FUNNEL = Tasks({"click": Task(), "buy": Task(given="click"), "open": Task()})


def refusal(*overrides: str) -> str:
    without = ["evaluate.truth=null", "evaluate.baseline_scores=null"]
    with pytest.raises(ConfigError) as caught:
        load_config(str(ROOT / "conf" / "demo.yaml"), [*without, *overrides])
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_number_is_the_worst_that_is_good_enough_and_two_are_a_range() -> None:
    require: dict[str, float | list[float]] = {
        "ctcvr_auc": 0.6,
        "ctr_gauc": 0.5,
        "cvr_log_loss_clicks": 0.3,
        "ctr_calibration": [0.9, 1.1],
    }
    assert bounds_of(require, DEFAULT_TASKS, has_truth=False) == {
        "ctcvr_auc": Bounds(0.6, None),
        "ctr_gauc": Bounds(0.5, None),
        "cvr_log_loss_clicks": Bounds(None, 0.3),
        "ctr_calibration": Bounds(0.9, 1.1),
    }


@pytest.mark.parametrize(
    ("bounds", "met", "unmet"),
    [
        (Bounds(0.6, None), (0.6, 1.0), (0.5999, 0.0)),
        (Bounds(None, 0.3), (0.3, 0.0), (0.3001, 5.0)),
        (Bounds(0.9, 1.1), (0.9, 1.0, 1.1), (0.8999, 1.1001)),
    ],
)
def test_both_ends_are_good_enough(bounds: Bounds, met: tuple[float, ...], unmet: tuple[float, ...]) -> None:
    assert all(bounds.hold(value) for value in met)
    assert not any(bounds.hold(value) for value in unmet)


def test_metrics_of_any_task_can_be_required() -> None:
    found = bounds_of({"buy_auc_on_click": 0.6, "entire_buy_auc": 0.6, "open_gauc": 0.6}, FUNNEL, False)
    assert len(found) == 3
    with pytest.raises(
        ValueError, match=r"no metric 'cvr_auc_clicks': allowed are ctr_auc, .*buy_auc_on_click"
    ):
        bounds_of({"cvr_auc_clicks": 0.6}, FUNNEL, False)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "evaluate.require.ctr_acu=0.6",
            "evaluate.require has no metric 'ctr_acu': allowed are ctr_auc, ctr",
        ),
        (
            "evaluate.require.ctr_calibration=1",
            "neither more nor less of it is better: give a range, such",
        ),
        ("evaluate.require.ctr_auc=much", "evaluate.require.ctr_auc = 'much': must be a number, the worst"),
        ("evaluate.require.ctr_auc=true", "evaluate.require.ctr_auc = True: must be a number, the worst"),
        (
            "evaluate.require.ctr_auc=[0.5]",
            "must be a number, the worst that is good enough, or a range",
        ),
        ("evaluate.require.ctr_auc=[0.9, 0.5]", "a range begins with its lower end"),
        ("evaluate.require.ctr_auc=.nan", "evaluate.require.ctr_auc"),
        ("evaluate.require.cvr_auc_entire_space=0.6", "needs the simulator's truth: set evaluate.truth"),
    ],
)
def test_what_cannot_be_required_is_refused_with_the_config(override: str, expected: str) -> None:
    assert expected in refusal(override)


def test_every_command_takes_requirements_from_its_config(tmp_path: Path) -> None:
    config = load_config(
        str(ROOT / "conf" / "demo.yaml"),
        ["evaluate.require={cvr_auc_entire_space: 0.6, ctr_calibration: [1, 1.5]}"],
    )
    assert config.required == {
        "cvr_auc_entire_space": Bounds(0.6, None),
        "ctr_calibration": Bounds(1.0, 1.5),
    }


def test_a_metric_that_is_not_defined_says_why() -> None:
    nothing = Requirement(at_least=0.6, at_most=None, found=None, is_met=False, reason="no positive label")
    assert nothing.told("ctr_auc") == "ctr_auc isn't defined (no positive label): required is at least 0.6"
