"""How cost grows, and what large data needs on paper: `python -m bench.scaling > docs/scaling.md`.

Prints the page and writes its plot, docs/scaling.png. Reads bench/results/bench.json, which must hold the
stages train, ranks, score and growth.
"""

import argparse
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.growth_plot import plot_growth
from bench.measure import ROOT
from bench.results import OURS, SENT, Results, load_results
from esmm_spark.contracts.config_file import load_config

GIB, MIB = 2**30, 2**20
_HOUR_S = 3600


@dataclass(frozen=True)
class UnitCosts:
    """Costs per impression, measured on the aliccp preset.

    Attributes:
        preprocess_cpu_s: CPU seconds of preprocess.
        train_core_s: core seconds of training, one pass, loader included.
        score_core_s: core seconds of scoring.
        raw_bytes: of the raw logs.
        example_bytes: of the examples.
        sent_bytes: that a rank sends in training if no row is its own; of r ranks it owns 1 / r of them.
        row_bytes: of an arena row with its optimizer state.
        step_dense_bytes: of the dense gradients that each rank sends in a step.
    """

    preprocess_cpu_s: float
    train_core_s: float
    score_core_s: float
    raw_bytes: float
    example_bytes: float
    sent_bytes: float
    row_bytes: float
    step_dense_bytes: float


@dataclass(frozen=True)
class Need:
    """What one data set needs.

    Attributes:
        preprocess_core_hours: of Spark.
        train_core_hours: of one pass.
        score_core_hours: of scoring all of it.
        raw_gib, examples_gib: on disk.
        arena_gib: over all ranks, optimizer state included.
    """

    preprocess_core_hours: float
    train_core_hours: float
    score_core_hours: float
    raw_gib: float
    examples_gib: float
    arena_gib: float


def unit_costs(results: Results, batch_size: int = 5000) -> UnitCosts:
    """Returns the unit costs of a run of the bench."""
    cores = results.machine["cores"]
    largest = results.stages["growth"].details["sizes"][-1]
    impressions = largest["impressions"]
    train = next(figure for figure in results.stages["train"].figures if figure.name == OURS)
    score = next(figure for figure in results.stages["score"].figures if figure.name == OURS)
    sent = next(f for f in results.stages["ranks"].figures if f.name == f"{OURS}, 2 ranks, {SENT}")
    arena = results.stages["growth"].details["arenas"][-1]
    return UnitCosts(
        preprocess_cpu_s=largest["preprocess"]["cpu_s"] / impressions,
        train_core_s=cores / train.value,
        score_core_s=cores / score.value,
        raw_bytes=largest["raw_bytes"] / impressions,
        example_bytes=largest["written_bytes"] / impressions,
        # Of 2 ranks, a rank sends half of what it needs and half of what the other one asked it for.
        sent_bytes=2 * 2 * sent.value * MIB / batch_size,
        row_bytes=arena["bytes"] / arena["rows"],
        step_dense_bytes=sent.details["dense_gradient_mib"] * MIB,
    )


def need(costs: UnitCosts, impressions: float, rows: float) -> Need:
    """Returns what a data set of `impressions` and an arena of `rows` need."""
    return Need(
        preprocess_core_hours=costs.preprocess_cpu_s * impressions / _HOUR_S,
        train_core_hours=costs.train_core_s * impressions / _HOUR_S,
        score_core_hours=costs.score_core_s * impressions / _HOUR_S,
        raw_gib=costs.raw_bytes * impressions / GIB,
        examples_gib=costs.example_bytes * impressions / GIB,
        arena_gib=costs.row_bytes * rows / GIB,
    )


def network_gbit_s(costs: UnitCosts, cores_per_rank: int, num_ranks: int) -> float:
    """Returns Gbit/s that each of `num_ranks` ranks sends while it trains at full speed.

    The dense gradients are left out: their share falls with the size of the batch.
    """
    impressions_per_s = cores_per_rank / costs.train_core_s
    return 8 * costs.sent_bytes * (num_ranks - 1) / num_ranks * impressions_per_s / 1e9


def paragraph(title: str, costs: UnitCosts, impressions: float, rows: float, hours: float, ranks: int) -> str:
    """Returns the estimate of one data set as a paragraph.

    Args:
        title: what it is.
        costs: unit costs.
        impressions: of the data set.
        rows: of the arena.
        hours: in which each stage should be done.
        ranks: of training; the cores of a rank follow.
    """
    found = need(costs, impressions, rows)
    cores = max(1, round(found.train_core_hours / hours / ranks))
    arena_gib, gbit_s = found.arena_gib, network_gbit_s(costs, cores, ranks)
    sentences = [
        f"**{title}** ({impressions:,.0f} impressions, {rows:,.0f} rows).",
        f"Preprocess: {_hours(found.preprocess_core_hours)} core hours, so",
        f"{_cores(found.preprocess_core_hours, hours)} Spark cores for {hours:g} h; it reads",
        f"{found.raw_gib:,.0f} GiB of logs, shuffles about as much,",
        f"and writes {found.examples_gib:,.0f} GiB.",
        f"Training: {_hours(found.train_core_hours)} core hours a pass, so {ranks} ranks of {cores} cores",
        f"for {hours:g} h; the arena with its optimizer state takes {arena_gib:,.1f} GiB,",
        f"{arena_gib / ranks:,.1f} GiB a rank; while it trains at full speed a rank",
        f"sends {gbit_s:.2f} Gbit/s of rows and gradients,",
        f"and {costs.step_dense_bytes / MIB:.2f} MiB of dense gradients a step.",
        f"Scoring: {_hours(found.score_core_hours)} core hours, so",
        f"{_cores(found.score_core_hours, hours)} cores for {hours:g} h.",
    ]
    return " ".join(sentences)


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def _cores(core_hours: float, hours: float) -> str:
    return f"{max(1, round(core_hours / hours)):,}"


def document(results: Results) -> str:
    """Returns docs/scaling.md."""
    costs, machine = unit_costs(results), results.machine
    spec = load_config(str(ROOT / "conf" / "aliccp.yaml")).features
    lines = [
        "# How cost grows",
        "",
        f"From `python -m bench` on {machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}, "
        f"{machine['date']}; `python -m bench.scaling > docs/scaling.md` writes this page.",
        "",
        "![How time, memory and bytes grow with impressions, and what an arena costs](scaling.png)",
        "",
        "Dotted: in proportion to the first point.",
        "",
        "| impressions | preprocess | its memory | written | an epoch of training | its memory |",
        "|---|---|---|---|---|---|",
        *(_size_row(found) for found in results.stages["growth"].details["sizes"]),
        "",
        "Seconds are those of the whole command: start-up and, for training, validation, checkpoints and "
        "publishing the model included.",
        "",
        "| arena rows | training, batches in memory | arena and state |",
        "|---|---|---|",
        *(
            f"| {found['rows']:,} | {found['rate']:,.0f} impressions/s | {found['bytes'] / GIB:.2f} GiB |"
            for found in results.stages["growth"].details["arenas"]
        ),
        "",
        "## On paper",
        "",
        "Unit costs of that run, per impression: "
        f"preprocess {costs.preprocess_cpu_s * 1e6:.1f} CPU µs, "
        f"training {costs.train_core_s * 1e6:.1f} core µs, scoring {costs.score_core_s * 1e6:.1f} core µs, "
        f"{costs.raw_bytes:.0f} bytes of logs, {costs.example_bytes:.0f} of examples, "
        f"{costs.sent_bytes:.0f} sent in training by a rank that owns none of the rows; "
        f"{costs.row_bytes:.0f} bytes for each row of the arena.",
        "",
        paragraph("The full Ali-CCP", costs, 84e6, spec.num_rows, 1.0, 2),
        "",
        paragraph("Ten billion impressions", costs, 10e9, 2e9, 8.0, 64),
        "",
        "Left out: shuffles of this size go over a network and disks (about the raw logs' bytes each way), a "
        "step is as slow as its slowest rank, and on more ranks with the same global batch fewer "
        "impressions share a row, so that a rank sends somewhat more for each.",
    ]
    return "\n".join(map(_wrapped, lines)) + "\n"


def _wrapped(text: str) -> str:
    """Returns a paragraph in lines of at most 120 columns; a table's row stays one line."""
    return text if text.startswith("|") else textwrap.fill(text, 120, break_on_hyphens=False)


def _size_row(found: dict[str, Any]) -> str:
    preprocess, train = found["preprocess"], found["train"]
    return (
        f"| {found['impressions']:,} | {preprocess['wall_s']:.0f} s, {preprocess['cpu_s']:.0f} CPU s | "
        f"{preprocess['peak_mib'] / 1024:.1f} GiB | {found['written_bytes'] / MIB:,.0f} MiB | "
        f"{train['wall_s']:.0f} s | "
        f"{train['peak_mib'] / 1024:.1f} GiB |"
    )


def main() -> None:
    """Prints the page and writes its plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results" / "bench.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "scaling.png")
    arguments = parser.parse_args()
    results = load_results(arguments.results)
    plot_growth(results, arguments.plot)
    print(document(results), end="")


if __name__ == "__main__":
    main()
