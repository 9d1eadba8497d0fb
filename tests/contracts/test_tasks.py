"""The contract of tasks: their order, chains and columns, and what a config must not say."""

from typing import Any

import pytest
from pydantic import ValidationError

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.schemas.columns import DEFAULT_LABELS, EXAMPLE_COLUMNS, label_columns, names_of
from esmm_spark.contracts.tasks import DEFAULT_TASKS, NO_PARENT, Tasks
from tests.contracts.test_config import MINIMAL, minimal  # noqa: F401

FUNNEL = Tasks.model_validate(
    {"repurchase": {"given": "conversion"}, "conversion": {"given": "click"}, "click": {}}
)
TREE = Tasks.model_validate(
    {
        "like": {},
        "click": {},
        "cart": {"given": "click"},
        "share": {"given": "like"},
        "buy": {"given": "cart"},
    }
)


def test_without_a_section_the_tasks_are_click_and_conversion() -> None:
    assert Config.model_validate(MINIMAL).tasks == DEFAULT_TASKS
    assert DEFAULT_TASKS.names == ("click", "conversion")
    assert DEFAULT_TASKS.parents == (NO_PARENT, 0)


def test_parents_come_before_children_whatever_the_order_of_the_config() -> None:
    assert FUNNEL.names == ("click", "conversion", "repurchase")
    assert FUNNEL.parents == (NO_PARENT, 0, 1)


def test_a_tree_keeps_the_order_of_the_config_where_parents_allow_it() -> None:
    assert TREE.names == ("like", "click", "cart", "share", "buy")
    assert TREE.parents == (NO_PARENT, NO_PARENT, 1, 0, 2)


def test_the_chain_of_a_task_leads_from_its_root_to_it() -> None:
    assert TREE.chain("buy") == ("click", "cart", "buy")
    assert TREE.chain("like") == ("like",)
    assert TREE.children("click") == ("cart",)
    assert TREE.children("buy") == ()


def test_click_and_conversion_have_the_score_columns_of_the_paper() -> None:
    assert DEFAULT_TASKS.score_columns("click") == ("pctr", "pctr")
    assert DEFAULT_TASKS.score_columns("conversion") == ("pcvr", "pctcvr")
    assert DEFAULT_TASKS.all_score_columns == ("pctr", "pcvr", "pctcvr")


def test_other_tasks_have_score_columns_of_their_names_and_a_root_only_one() -> None:
    assert FUNNEL.score_columns("repurchase") == ("p_repurchase", "p_entire_repurchase")
    assert FUNNEL.all_score_columns == ("pctr", "pcvr", "pctcvr", "p_repurchase", "p_entire_repurchase")
    assert TREE.score_columns("like") == ("p_like", "p_like")
    # A conversion that isn't given a click is no pCVR.
    assert Tasks.model_validate({"conversion": {}}).all_score_columns == ("p_conversion",)


def test_a_line_is_rejected_for_a_label_without_its_parents() -> None:
    assert FUNNEL.orphan_reason("conversion") == "conversion_without_click"
    assert FUNNEL.orphan_reason("repurchase") == "repurchase_without_conversion"


def test_tasks_are_equal_only_with_the_same_labels_in_the_same_order() -> None:
    other_order = Tasks.model_validate({"click": {}, "like": {}})
    assert other_order != Tasks.model_validate({"like": {}, "click": {}})
    assert Tasks.model_validate({"conversion": {"given": "click"}, "click": {}}) == DEFAULT_TASKS
    assert FUNNEL != DEFAULT_TASKS


def test_tasks_in_a_few_words_name_what_each_is_given() -> None:
    assert FUNNEL.described() == "click, conversion given click, repurchase given conversion"


@pytest.mark.parametrize(
    "name",
    [c for c in (*EXAMPLE_COLUMNS, *names_of(label_columns(DEFAULT_LABELS))) if c not in DEFAULT_TASKS.names],
)
def test_no_task_has_the_name_of_another_column(name: str) -> None:
    with pytest.raises(ValidationError, match="choose another name"):
        Tasks.model_validate({name: {}})


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ({}, "tasks = {}: Dictionary should have at least 1 item"),
        ({"click": {"gven": "x"}}, "unknown key tasks.click.gven: allowed here are given"),
        ({"click": {"given": 3}}, "tasks.click.given = 3: Input should be a valid string"),
        (
            {"click": {}, "buy": {"given": "cart"}},
            "task buy is given 'cart', which is no task: there are click",
        ),
        (
            {"a": {"given": "c"}, "b": {"given": "a"}, "c": {"given": "b"}, "d": {"given": "a"}},
            "tasks are given each other in a circle: a given c given b given a",
        ),
        ({"a": {"given": "a"}}, "tasks are given each other in a circle: a given a"),
        ({"Click": {}}, "task 'Click' is no column name of lower-case letters, digits and _"),
        ({"pctr": {}}, "task 'pctr' has the name of another column"),
        ({"p_click": {}}, "task 'p_click' begins with one of p_, entire_, num_"),
        ({"entire_click": {}}, "task 'entire_click' begins with"),
        ({"click_time_us": {}}, "task 'click_time_us' ends with _time_us"),
    ],
)
def test_bad_tasks_get_one_line(
    minimal: str,  # noqa: F811
    tasks: dict[str, Any],
    expected: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, [f"tasks={tasks}"])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
