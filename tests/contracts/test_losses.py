"""Losses in a config: presets as terms, heads and embeddings that follow, and what a config must not say."""

from typing import Any

import pytest
import yaml

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.losses import PRESETS, Term
from esmm_spark.contracts.objective import Objective, resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.contracts.train_config import Model
from tests.contracts.test_config import MINIMAL, minimal  # noqa: F401

FUNNEL = Tasks.model_validate(
    {"click": {}, "conversion": {"given": "click"}, "repurchase": {"given": "conversion"}}
)
ENTIRE: list[dict[str, Any]] = [{"task": "click"}, {"task": "conversion"}]


def preset(name: str, tasks: Tasks = DEFAULT_TASKS) -> Objective:
    return resolve(Model(objective=name), [], tasks)


def config_with(**sections: Any) -> Config:
    return Config.model_validate({**MINIMAL, **sections})


def test_without_a_section_the_loss_is_esmm() -> None:
    objective = Config.model_validate(MINIMAL).objective
    assert objective.name == "esmm"
    assert objective.terms == (Term(task="click"), Term(task="conversion", space="entire"))
    assert objective.heads == ("click", "conversion")
    assert objective.num_embeddings == 1


def test_listed_terms_are_the_objective_and_need_no_name() -> None:
    objective = config_with(
        losses=[*ENTIRE, {"task": "conversion", "space": "given", "weight": 0.1}]
    ).objective
    assert objective.name == "terms"
    assert [term.space for term in objective.terms] == ["entire", "entire", "given"]


def test_a_stored_config_with_terms_is_read_back_as_it_was() -> None:
    config = config_with(
        losses=[*ENTIRE, {"task": "conversion", "space": "given", "propensity": {"clip": 0.2}}]
    )
    stored = yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))
    assert Config.model_validate(stored) == config


@pytest.mark.parametrize(
    ("name", "num_embeddings"), [("base", 2), ("esmm", 1), ("esmm_ns", 2), ("multi_dr", 1), ("dcmt", 1)]
)
def test_a_preset_says_whether_heads_share_an_embedding(name: str, num_embeddings: int) -> None:
    assert preset(name).num_embeddings == num_embeddings


def test_the_embedding_of_a_preset_may_be_another() -> None:
    model = Model(objective="escm2_dr", embedding="separate")
    assert resolve(model, [], DEFAULT_TASKS).num_embeddings == 3


def test_a_counterfactual_and_an_imputation_have_a_head_each() -> None:
    assert preset("dcmt").heads == ("click", "conversion", "conversion:counterfactual")
    assert preset("escm2_dr", FUNNEL).heads[3:] == ("conversion:imputation", "repurchase:imputation")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_every_task_of_a_funnel(name: str) -> None:
    objective = preset(name, FUNNEL)
    assert {term.task for term in objective.terms} == set(FUNNEL.names)
    assert objective.heads[:3] == FUNNEL.names


def test_the_entire_space_is_the_product_along_the_chain_or_the_head_itself() -> None:
    assert preset("esmm", FUNNEL).entire_heads("repurchase") == (0, 1, 2)
    assert preset("division", FUNNEL).entire_heads("repurchase") == (2,)


def test_escm2_ips_is_esmm_and_inverse_propensities() -> None:
    *esmm, last = preset("escm2_ips").terms
    assert tuple(esmm) == preset("esmm").terms
    assert last == Term.model_validate(
        {"task": "conversion", "space": "given", "weight": 0.1, "propensity": {"clip": 0.1}}
    )


GIVEN = {"task": "conversion", "space": "given"}


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([{"task": "buy"}], "losses has a term of 'buy', which is no task: there are click, conversion"),
        (
            [{"task": "click", "space": "given"}, {"task": "conversion"}],
            "losses has a term of click with space: given, but it is given no task: leave it out",
        ),
        ([{"task": "click"}], "no term of losses trains conversion: add one, or drop the task"),
        ([{**GIVEN, "weight": 0}], "losses.0.weight = 0: Input should be greater than 0"),
        ([{**GIVEN, "wait": 1}], "unknown key losses.0.wait: allowed here are task, space, weight"),
        ([{**GIVEN, "propensity": {"clip": 0}}], "losses.0.propensity.clip = 0: Input should be greater"),
        (
            [{"task": "conversion", "missing": 1}],
            "missing needs space: given, the term of conversion is entire",
        ),
        (
            [{"task": "conversion", "propensity": {}}],
            "propensity needs space: given, the term of conversion is entire",
        ),
        (
            [{**GIVEN, "imputation": {}}],
            "imputation needs a propensity, which the term of conversion lacks",
        ),
        (
            [{**GIVEN, "propensity": {}, "counterfactual": {}, "imputation": {}}],
            "a term of conversion has counterfactual and imputation: only one of them may be",
        ),
        (
            [{**GIVEN, "propensity": {}, "imputation": {}, "positives": 2}],
            "a term of conversion with imputation takes no positives, negatives or missing",
        ),
        (
            [{"task": "click"}, *[{**GIVEN, "propensity": {}, "imputation": {}}] * 2],
            "losses has two terms with a head conversion:imputation: only one may have it",
        ),
        (
            [*ENTIRE, {"task": "conversion", "not_above": "click", "weight": 0.6}],
            "not_above: click, but conversion is given click and so never above it, the term is always 0",
        ),
        ([*ENTIRE, {"task": "click", "not_above": "buy"}], "not_above: 'buy', which is no task: there are"),
        ([*ENTIRE, {"task": "click", "not_above": "click"}], "not_above: click, itself: name another task"),
        (
            [*ENTIRE, {"task": "click", "not_above": "conversion"}],
            "not_above: conversion, but conversion is given click and so never above it: exchange them",
        ),
        ([{**GIVEN, "not_above": "click"}], "not_above needs space: entire, the term of conversion is given"),
        (
            [{"task": "click", "not_above": "conversion", "positives": 2}],
            "a term of click with not_above takes no positives or negatives: it reads no label",
        ),
    ],
)
def test_bad_terms_get_one_line(
    minimal: str,  # noqa: F811
    losses: list[dict[str, Any]],
    expected: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, [f"losses={losses}"])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            [f"losses={ENTIRE}", "model.objective=base"],
            "losses lists 2 terms, but model.objective is base: leave one of them out",
        ),
        (["model.objective=terms"], "losses lists no term, but model.objective is terms"),
        (["model.objective=both"], "model.objective = 'both': it is no objective: allowed are esmm, base,"),
        (["model.objective=own:"], "model.objective = 'own:': it is no objective"),
        (
            ["model.extra_heads=1"],
            "model.extra_heads = 1 are for a loss of your own, model.objective is esmm",
        ),
        (
            ["model.objective=base", "model.head_space=entire"],
            "losses has a term of conversion with space: given, but with model.head_space: entire no head is",
        ),
        (
            [f"losses={[*ENTIRE, {'task': 'click', 'sample_weight': 'price'}]}"],
            "losses has a term that reads the column price, which is not carried: add price: float",
        ),
        (["train.best_metric=auc"], "train.best_metric = 'auc': allowed are ctr_auc, cvr_auc, ctcvr_auc"),
    ],
)
def test_a_bad_objective_gets_one_line(minimal: str, overrides: list[str], expected: str) -> None:  # noqa: F811
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, overrides)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_constraint_trains_no_task_by_itself() -> None:
    roots = Tasks.model_validate({"click": {}, "conversion": {}})
    terms = [Term(task="click"), Term(task="conversion", not_above="click")]
    with pytest.raises(ValueError, match="no term of losses trains conversion: add one"):
        resolve(Model(objective="terms"), terms, roots)
    # A head of the entire space may well be above its parent's.
    division = Model(objective="terms", head_space="entire")
    assert resolve(division, [*terms, Term(task="conversion")], DEFAULT_TASKS).heads == (
        "click",
        "conversion",
    )


def test_the_best_epoch_is_that_of_the_last_task_in_the_entire_space() -> None:
    assert Config.model_validate(MINIMAL).best_metric == "ctcvr_auc"
    assert config_with(train={"best_metric": "ctr_auc"}).best_metric == "ctr_auc"
