"""A funnel of three tasks with unknown labels and carried numbers, trained by listed terms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.impressions import CarriedKind, ImpressionColumns
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.feed.groups import Layout
from esmm_spark.files.schemas import arrow_schema
from esmm_spark.model.directory import read_info
from esmm_spark.training.run import train
from tests.synthetic_examples import SPEC, config_content, random_groups, write_dataset, write_partition
from tests.training.runs import assert_same_model, metrics, newest_version, run

FUNNEL = Tasks.model_validate(
    {"click": {}, "conversion": {"given": "click"}, "repurchase": {"given": "conversion"}}
)
CARRY: dict[str, CarriedKind] = {"price": "float", "seen": "float"}
TERMS: list[dict[str, Any]] = [
    {"task": "click", "sample_weight": "price"},
    {"task": "conversion"},
    {"task": "conversion", "space": "given", "weight": 0.1, "propensity": {"column": "seen", "clip": 0.2}},
    {"task": "repurchase"},
    {"task": "repurchase", "space": "given", "weight": 0.1, "propensity": {}, "imputation": {}},
]


def groups_of_three_tasks(num_groups: int, seed: int) -> list[dict[str, Any]]:
    """Returns groups whose conversions are bought again by half; a tenth of all that may be 1 is unknown."""
    random = np.random.default_rng(seed)
    groups = random_groups(num_groups, seed)
    for group in groups:
        again = [own * int(random.random() < 0.5) for own in group["conversion"]]
        group["repurchase"] = [
            None if own and random.random() < 0.1 else label
            for own, label in zip(group["conversion"], again, strict=True)
        ]
        group["price"] = random.uniform(0.5, 2.0, len(again)).tolist()
        group["seen"] = random.uniform(0.1, 0.9, len(again)).tolist()
    return groups


@pytest.fixture(scope="module")
def funnel_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("funnel") / "dataset"
    schema = arrow_schema(Layout(SPEC, ImpressionColumns(FUNNEL, CARRY), for_scoring=True).columns)
    sizes = {"split=train": [[200, 150], [50]], "split=validation": [[100], [100]]}
    partitions = {
        name: write_partition(
            folder, name, groups_of_three_tasks(sum(map(sum, rows)), seed), rows, schema, FUNNEL.names
        )
        for seed, (name, rows) in enumerate(sizes.items())
    }
    assert partitions["split=train"].unknown["repurchase"] > 10
    write_dataset(folder, partitions, tasks=FUNNEL, carry=CARRY)
    return folder


@pytest.fixture
def content(funnel_dataset: Path, tmp_path: Path) -> dict[str, Any]:
    """Returns a config of 2 epochs whose paths lie in a folder with the dataset; its logs are never read."""
    (tmp_path / "dataset").symlink_to(funnel_dataset)
    log = {"path": str(tmp_path / "none"), "time": "time", "user_id": "u", "item_id": "i"}
    features = {field.name: field.name for field in SPEC.fields}
    repurchase = {**log, "path": str(tmp_path / "repurchases"), "event_id": "id", "window_s": 60}
    logs = {
        "format": "events",
        "events": {
            "impressions": {
                **log,
                "path": str(tmp_path / "impressions"),
                "impression_id": "id",
                "features": features,
            },
            "clicks": {**log, "path": str(tmp_path / "clicks")},
            "conversions": {**log, "path": str(tmp_path / "conversions")},
            "tasks": {"repurchase": repurchase},
            "attribution": {"click_window_s": 60, "conversion_window_s": 60},
        },
    }
    tasks = {"click": {}, "conversion": {"given": "click"}, "repurchase": {"given": "conversion"}}
    more = {
        "logs": logs,
        "tasks": tasks,
        "losses": TERMS,
        "samples": {"carry": CARRY, "unknown_labels": "keep"},
    }
    return {**config_content(tmp_path), **more}


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
    assert info.objective.heads == (*FUNNEL.names, "repurchase:imputation")


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


def test_a_column_that_the_dataset_does_not_carry_is_told_before_the_first_step(
    content: dict[str, Any],
) -> None:
    content["samples"]["carry"] = {**CARRY, "margin": "float"}
    content["losses"] = [*TERMS, {"task": "click", "sample_weight": "margin"}]
    with pytest.raises(
        InputError, match=r"losses reads margin, but dataset .* carries price, seen: name it in"
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
        r"labels \[3, 3\], carried price, seen: KeyError: 'margin'",
    ):
        train(Config.model_validate(content))
