"""The stage of networks: who is held against whom, and what it says of each. Nothing is measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.contenders import Contender
from bench.results import Results, StageResult
from bench.stages import networks
from bench.workspace import Workspace

GFLOP = {"mlp": 2.0, "dcn": 9.0, "mmoe": 4.0, "ple": 5.0, "aitm": 3.0, "din": 6.0}


@pytest.fixture
def contenders(monkeypatch: pytest.MonkeyPatch) -> list[Contender]:
    """What the stage has measured in turns: ours at 1,200 impressions/s, each flat twin at 100."""
    found: list[Contender] = []

    def in_turns(_: Workspace, result: StageResult, stage: str, own: Sequence[Contender]) -> dict[str, float]:
        found.extend(own)
        return {one.title: 1200.0 if one.module == "bench.workers.train" else 100.0 for one in own}

    def measured_worker(module: str, arguments: Sequence[str], log: Path) -> tuple[dict[str, Any], None]:
        assert module == "bench.workers.profile_networks"
        own = {
            name: {"step_s": 2.0, "product_s": 1.0, "gflop_per_impression": gflop}
            for name, gflop in GFLOP.items()
        }
        assert {argument.split("=")[0] for argument in arguments} == set(own)
        return {"networks": own, "batch_size": 10, "sgemm_gflops": 100.0, "threads": 2}, None

    monkeypatch.setattr(networks, "in_turns", in_turns)
    monkeypatch.setattr(networks, "measured_worker", measured_worker)
    monkeypatch.setattr(Workspace, "raw", lambda self, *_: self.root / "raw")
    monkeypatch.setattr(Workspace, "preprocessed", lambda self, config: config)
    return found


def test_each_network_is_held_against_its_twin_and_the_table_says_what_limits_it(
    contenders: list[Contender], tmp_path: Path
) -> None:
    stage = networks.run(Workspace(tmp_path, 1000))
    assert [one.module for one in contenders] == ["bench.workers.train", "bench.workers.reference"] * 6
    for ours, flat in zip(contenders[::2], contenders[1::2], strict=True):
        assert ours.arguments[:2] == [flat.arguments[0], flat.arguments[2]]
    of_din = [one.arguments[0] for one in contenders if "model.network=din" in one.arguments]
    assert len(set(of_din)) == 1
    assert of_din[0] != contenders[0].arguments[0]

    goals = {goal.text: goal.value for goal in stage.goals}
    assert goals["din with loader / the same in plain flat PyTorch"] == 12
    assert goals["dcn's rate per unit of matrix-product work / mlp's"] == pytest.approx(9 / 2)
    machine = {"cpu": "", "cores": 2, "memory_gib": 1, "commit": "", "date": "", "load_before": 0.0}
    text = report.markdown(Results(machine, {}, {"networks": stage}))
    assert "| esmm_spark, din: matrix products' share of a step | 0.5 | of 1 |" in text
    assert "| esmm_spark, din: their rate | 0.6 | of sgemm's |" in text
    assert "What limits dcn: of its three wide products only the first cross layer's has" in text
    assert "What limits din: three quarters of the attention's first layer are computed once" in text
