"""Results, their table and plot, verdicts, and the metering of a process tree."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.measure import ROOT, measured
from bench.report import markdown, plot
from bench.results import Results, StageResult, load_results
from bench.verdicts import collect, judge, table
from bench.workspace import Workspace, single_valued_changes
from esmm_spark.contracts.config_file import load_config

MACHINE = {"cpu": "a CPU", "cores": 2, "memory_gib": 8, "commit": "abc", "date": "today", "load_before": 0.0}


def results() -> Results:
    stage = StageResult()
    stage.add("esmm_spark", 300.0, "impressions/s")
    stage.add("esmm_spark, single-valued", 50.0, "impressions/s")
    stage.add("peer, all fields", 100.0, "impressions/s")
    stage.add("peer, single-valued", 25.0, "impressions/s", rounds=[24.0, 25.0])
    stage.ask("ours / peer", 3.0, 2.5)
    stage.ask("seconds", 16.0, 15.0, at_least=False)
    return Results(MACHINE, {"impressions": 1000}, {"train": stage})


def test_a_peer_is_held_against_our_figure_of_its_shape() -> None:
    text = markdown(results())
    assert "| peer, all fields | 100 | impressions/s | 3.00x |" in text
    assert "| peer, single-valued | 25 | impressions/s | 2.00x |" in text


def test_a_goal_that_is_missed_is_marked() -> None:
    text = markdown(results())
    assert "| train | ours / peer | 3 | >= 2.5 | met |" in text
    assert "| train | seconds | 16 | <= 15 | **not met** |" in text


def test_results_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    results().save(path)
    assert load_results(path) == results()
    assert [goal["met"] for goal in json.loads(path.read_text())["stages"]["train"]["goals"]] == [True, False]


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    plot(results(), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def metrics(entire_space: float, calibration: float = 1.0) -> dict[str, float]:
    return {
        "ctr_auc": 0.7,
        "cvr_auc_clicks": 0.7,
        "ctcvr_auc": 0.7,
        "cvr_auc_entire_space": entire_space,
        "ctr_calibration": 1.0,
        "ctcvr_calibration": calibration,
    }


def test_a_gain_within_the_spread_over_seeds_is_none() -> None:
    clear = collect([{"model": metrics(0.80 + s), "baseline": metrics(0.70 + s)} for s in (0, 0.01, 0.02)])
    assert all(good for _, good in judge(clear))
    unclear = collect([{"model": metrics(0.80 + s), "baseline": metrics(0.79)} for s in (0, 0.01, 0.02)])
    assert [good for _, good in judge(unclear)] == [False, True, True]
    assert "0.8100 ± 0.0100" in table(clear)


def test_one_seed_out_of_calibration_is_told() -> None:
    found = collect([{"model": metrics(0.8, c), "baseline": metrics(0.6)} for c in (1.0, 1.11)])
    assert [good for _, good in judge(found)] == [True, True, False]


@pytest.mark.slow
def test_the_meter_counts_processes_that_outlive_their_parent(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    usage = measured([sys.executable, "-c", orphan], tmp_path / "log")
    assert usage.cpu_s >= 0.5
    assert usage.largest_process_mib > 1


def test_the_meter_passes_on_the_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.meter", str(tmp_path / "usage.json"), "--"]
    done = subprocess.run([*command, sys.executable, "-c", "raise SystemExit(3)"], cwd=ROOT)
    assert done.returncode == 3


def test_the_benches_configs_are_valid(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, 1000)
    path = workspace.config("single", tmp_path / "raw", single_valued_changes())
    config = load_config(str(path))
    assert not any(field.multi or field.weighted for field in config.features.fields)
    assert 1_200_000 < config.features.num_rows < 1_400_000
    assert yaml.safe_load(path.read_text())["samples"]["max_group_size"] == 1


def test_a_stage_measured_on_a_busy_machine_says_so() -> None:
    found = results()
    found.stages["train"].details = {"machine": {**MACHINE, "load_before": 3.0}, "impressions": 1000}
    assert "1,000 impressions, commit abc, today, **on a busy machine: don't quote**." in markdown(found)
