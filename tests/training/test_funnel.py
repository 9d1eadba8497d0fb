"""A funnel of three tasks with unknown labels and carried numbers, trained by listed terms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, InputError, NonFiniteLossError
from esmm_spark.model.directory import read_info
from esmm_spark.training.checkpoint import read_state
from esmm_spark.training.run import train
from tests.funnel_examples import CARRY, FUNNEL, funnel_content, groups_of_three_tasks, write_funnel
from tests.training.runs import assert_same_model, metrics, newest_version, run, stop_at

TERMS: list[dict[str, Any]] = [
    {"task": "click", "sample_weight": "price"},
    {"task": "conversion"},
    {"task": "conversion", "space": "given", "weight": 0.1, "propensity": {"column": "seen", "clip": 0.2}},
    {"task": "conversion", "space": "given", "propensity": {"normalized": True}, "counterfactual": {}},
    {"task": "repurchase"},
    {"task": "repurchase", "space": "given", "weight": 0.1, "propensity": {}, "imputation": {}},
]


@pytest.fixture(scope="module")
def funnel_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("funnel") / "dataset"
    manifest = write_funnel(
        folder,
        {
            "split=train": (groups_of_three_tasks(400, seed=0), [[200, 150], [50]]),
            "split=validation": (groups_of_three_tasks(200, seed=1), [[100], [100]]),
        },
    )
    assert manifest.partitions["split=train"].unknown["repurchase"] > 10
    return folder


@pytest.fixture
def content(funnel_dataset: Path, tmp_path: Path) -> dict[str, Any]:
    """Returns a config of 2 epochs whose paths lie in a folder with the dataset."""
    (tmp_path / "dataset").symlink_to(funnel_dataset)
    return {**funnel_content(tmp_path), "losses": TERMS}


@pytest.mark.slow
def test_three_tasks_are_trained_and_each_is_measured(content: dict[str, Any], tmp_path: Path) -> None:
    summary = train(Config.model_validate(content))
    assert summary is not None
    assert "repurchase AUC on conversions" in summary
    found = metrics(tmp_path / "model")
    for series in ("ctr", "cvr", "ctcvr", "repurchase", "entire_repurchase"):
        assert {f"{series}_auc", f"{series}_log_loss", f"{series}_calibration"} <= set(found)
    assert found["entire_repurchase_auc"] > 0.7
    info = read_info(str(newest_version(tmp_path / "model")))
    assert info.tasks == FUNNEL
    assert len(info.losses) == len(TERMS)
    assert info.objective.heads == (*FUNNEL.names, "conversion:counterfactual", "repurchase:imputation")


@pytest.mark.horovod
@pytest.mark.slow
def test_two_ranks_train_the_funnel_of_one(content: dict[str, Any], tmp_path: Path) -> None:
    train(Config.model_validate(content))
    (tmp_path / "model").rename(tmp_path / "one")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    result = run(2, path)
    assert result.returncode == 0, result.stderr
    assert_same_model(tmp_path / "model", tmp_path / "one", 5e-4)


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_its_running_means(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(Config.model_validate(content))
    (tmp_path / "model").rename(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(5, patch)
        with pytest.raises(SystemExit):
            train(Config.model_validate(content))
    (stopped,) = (tmp_path / "model/checkpoints").glob("step-*")
    # Of what happened and of what did not, each over all impressions.
    assert all(
        0 < mean < 10 for mean in read_state(str(tmp_path / "model"), int(stopped.name[5:])).weight_means
    )
    train(Config.model_validate(content))
    assert_same_model(tmp_path / "model", tmp_path / "whole", 1e-7)


def test_a_column_that_the_dataset_does_not_carry_is_told_before_the_first_step(
    content: dict[str, Any],
) -> None:
    content["samples"]["carry"] = {**CARRY, "margin": "float"}
    content["logs"]["events"]["impressions"]["features"]["margin"] = "margin"
    content["losses"] = [*TERMS, {"task": "click", "sample_weight": "margin"}]
    with pytest.raises(
        InputError, match=r"losses reads margin, but dataset .* carries price, seen, place: name it in"
    ):
        train(Config.model_validate(content))


def test_training_reads_the_carried_columns_of_its_loss_alone(content: dict[str, Any]) -> None:
    assert list(Config.model_validate(content).trained.carry) == ["price", "seen"]
    content["losses"] = []
    assert Config.model_validate(content).trained.carry == {}
    content["model"] = {**content["model"], "objective": f"{__name__}:wrong"}
    # Of a function nobody knows what it reads: all that are numbers.
    assert list(Config.model_validate(content).trained.carry) == ["price", "seen", "place"]


@pytest.mark.parametrize("term", [{"sample_weight": "place"}, {"propensity": {"column": "place"}}])
@pytest.mark.parametrize("network", ["mlp", "dcn"])
def test_a_number_that_is_missing_where_a_term_needs_it_is_told(
    content: dict[str, Any], term: dict[str, Any], network: str
) -> None:
    space = "given" if "propensity" in term else "entire"
    content["losses"] = [*TERMS, {"task": "conversion", "space": space, **term}]
    content["model"] = {**content["model"], "network": network}
    with pytest.raises(
        NonFiniteLossError,
        match=r"the loss is nan at step 1 .* or look at these groups: the loss reads carried "
        r"columns that some impressions lack \(place in \d+\)$",
    ):
        train(Config.model_validate(content))


def test_a_task_of_which_no_label_is_known_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    groups = [{**g, "repurchase": [None] * len(g["click"])} for g in groups_of_three_tasks(20, seed=0)]
    (tmp_path / "dataset").unlink()
    write_funnel(tmp_path / "dataset", {"split=train": (groups, [[20]])})
    count = sum(len(group["click"]) for group in groups)
    with pytest.raises(
        InputError, match=f"no repurchase of the {count} impressions of split=train is known: train on others"
    ):
        train(Config.model_validate(content))


def soft_alignment(logits: Tensor, labels: Tensor, carried: Mapping[str, Tensor]) -> Tensor:
    """ESMM, and soft labels for unclicked impressions from a head of clicks without a conversion.

    After Cheng et al., "ChorusCVR" (arXiv 2502.08277): an objective that isn't built in.
    """
    click, conversion, _ = labels
    ctr, cvr, _, unconverted = logits
    assert carried["price"].shape == click.shape
    log_converted = F.logsigmoid(ctr) + F.logsigmoid(cvr)
    log_unconverted = F.logsigmoid(ctr) + F.logsigmoid(unconverted)
    soft = torch.sigmoid(log_converted - log_unconverted).detach()
    not_converted = torch.log1p(-log_converted.exp().clamp(max=1 - 1e-6))
    not_unconverted = torch.log1p(-log_unconverted.exp().clamp(max=1 - 1e-6))
    without = click * (1 - conversion)
    return torch.stack(
        [
            F.binary_cross_entropy_with_logits(ctr, click, reduction="none"),
            -torch.where(conversion > 0, log_converted, not_converted),
            -torch.where(without > 0, log_unconverted, not_unconverted),
            (1 - click) * F.binary_cross_entropy_with_logits(cvr, soft, reduction="none"),
        ]
    )


@pytest.mark.slow
def test_an_objective_that_is_not_built_in_is_one_function(content: dict[str, Any], tmp_path: Path) -> None:
    content["losses"] = []
    content["model"] = {**content["model"], "objective": f"{__name__}:soft_alignment", "extra_heads": 1}
    train(Config.model_validate(content))
    assert metrics(tmp_path / "model")["ctcvr_auc"] > 0.7


def wrong(logits: Tensor, labels: Tensor, carried: Mapping[str, Tensor]) -> Tensor:
    return logits[0] * carried["margin"]


def test_an_objective_that_fails_is_told_before_the_first_step(content: dict[str, Any]) -> None:
    content["losses"] = []
    content["model"] = {**content["model"], "objective": f"{__name__}:wrong"}
    with pytest.raises(
        ConfigError,
        match=r"model\.objective tests\.training\.test_funnel:wrong fails on logits \[3, 3\], "
        r"labels \[3, 3\], carried price, seen, place: KeyError: 'margin'",
    ):
        train(Config.model_validate(content))
