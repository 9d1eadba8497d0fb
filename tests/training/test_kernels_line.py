"""The line of a run's log that says which kernels it trains with."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.esmm import build_esmm
from esmm_spark.model.fused import blas
from esmm_spark.training.kernels_line import kernels_line
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.run import train
from tests.synthetic_examples import SPEC, small_config
from tests.training.ranks.fake_collectives import Mirror

ALONE = Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1)
ARENA = EmbeddingArena(SPEC.num_rows, 4, optimizer=RowOptimizer(0.1), init_range=0.1, seed=1)


def line(model: Model, cluster: Cluster = ALONE, bfloat16: bool = False) -> str:
    return kernels_line(build_esmm(model, SPEC, resolve(model, [], DEFAULT_TASKS)), ARENA, cluster, bfloat16)


def test_the_log_of_a_run_says_which_kernels_train(
    new_run: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "esmm_spark"):
        train(small_config(new_run().parent, max_steps=1))
    assert "towers: fused, MKL, float32; embedding: compiled, cpu; ranks: 1" in caplog.messages


@pytest.mark.parametrize("objective", ["base", "dcmt", "escm2_dr"])
def test_any_preset_of_perceptrons_is_fused(objective: str) -> None:
    assert line(Model(objective=objective)).startswith("towers: fused, MKL, float32;")


def test_what_is_not_fused_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line(Model(network="dcn")).startswith("towers: torch, float32, because the network is Dcn;")
    own = f"{__name__}:own_loss"
    assert line(Model(objective=own)).startswith(f"towers: torch, float32, because the loss is {own}, a func")
    monkeypatch.setattr(blas, "_has_bfloat16", lambda: False)
    assert line(Model(), bfloat16=True).startswith(
        "towers: torch, bfloat16, because torch or this CPU has no"
    )


def own_loss(logits: torch.Tensor, labels: torch.Tensor, carried: object) -> torch.Tensor:
    return logits.sum(0)


def test_several_ranks_are_told_with_what_they_exchange_over() -> None:
    two = Cluster(rank=0, num_ranks=2, local_rank=0, local_ranks=2, collectives=Mirror(True))
    assert line(Model(), two).endswith("ranks: 2, Mirror over Nothing")
