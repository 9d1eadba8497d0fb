"""The estimates on paper, from unit costs that are easy to multiply."""

from pathlib import Path

import pytest

from bench.growth_plot import plot_growth
from bench.results import Results, StageResult
from bench.scaling import GIB, MIB, document, need, network_gbit_s, unit_costs


def results() -> Results:
    train, score, ranks, growth = (StageResult() for _ in range(4))
    train.add("esmm_spark", 100_000.0, "impressions/s")
    score.add("esmm_spark", 200_000.0, "impressions/s")
    ranks.add("esmm_spark, 2 ranks, a step", 35.0, "ms/step/rank")
    ranks.add("esmm_spark, 2 ranks, rows and gradients sent", 1.25, "MiB/step/rank", dense_gradient_mib=0.5)
    usage = {"wall_s": 20.0, "cpu_s": 36.0, "peak_mib": 2048.0}
    size = {
        "impressions": 1_000_000,
        "raw_bytes": 300 * 10**6,
        "written_bytes": 100 * 10**6,
        "preprocess": usage,
        "train": usage,
    }
    growth.details = {"sizes": [size], "arenas": [{"rows": 10**6, "bytes": 52 * 10**6, "rate": 1e5}]}
    machine = {"cpu": "a CPU", "cores": 2, "commit": "abc", "date": "today"}
    return Results(machine, {}, {"train": train, "score": score, "ranks": ranks, "growth": growth})


def test_needs_are_unit_costs_times_size() -> None:
    costs = unit_costs(results())
    found = need(costs, impressions=100e6, rows=2e9)
    assert found.preprocess_core_hours == pytest.approx(36e-6 * 100e6 / 3600)
    assert found.train_core_hours == pytest.approx(100e6 * 2 / 100_000 / 3600)
    assert found.score_core_hours == pytest.approx(100e6 * 2 / 200_000 / 3600)
    assert found.arena_gib == pytest.approx(52 * 2e9 / GIB)
    assert found.raw_gib == pytest.approx(300 * 100e6 / GIB)


def test_a_rank_sends_what_others_own() -> None:
    costs = unit_costs(results(), batch_size=5000)
    # On 2 ranks each trains half of the batch, and half of the rows that it needs are its own.
    assert costs.sent_bytes == pytest.approx(1.25 * MIB / 2500 * 2)
    # A rank of one core trains 50,000 impressions a second.
    assert network_gbit_s(costs, cores_per_rank=1, num_ranks=2) == pytest.approx(
        8 * 1.25 * MIB / 2500 * 50_000 / 1e9
    )


def test_the_page_holds_both_estimates() -> None:
    page = document(results())
    assert "**The full Ali-CCP** (84,000,000 impressions" in page
    assert "**Ten billion impressions** (10,000,000,000 impressions, 2,000,000,000 rows)" in page


@pytest.mark.slow
def test_the_plot_is_a_png(tmp_path: Path) -> None:
    plot_growth(results(), tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "](scaling.png)" in document(results())
