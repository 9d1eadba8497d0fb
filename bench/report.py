"""The results for people: a markdown table, and a plot of every stage against its peers."""

from pathlib import Path
from typing import Any

from bench.results import OURS, Figure, Results, StageResult

# A load average before the run above this means that something else ran, too.
BUSY_LOAD = 1.0

_RATE_UNITS = ("impressions/s", "impressions/CPU-s")


def markdown(results: Results) -> str:
    """Returns the machine, the goals, and the figures of every stage as markdown."""
    machine = results.machine
    lines = [
        "# Bench",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"commit {machine['commit']}, {machine['date']}, load before {machine['load_before']}. "
        f"About {results.options.get('impressions', 0):,} impressions of the `aliccp` preset. "
        "Ratios within this run count; absolute figures belong to this machine.",
        "",
        *_goals(results),
    ]
    for name, stage in results.stages.items():
        lines += ["", f"## {name}", "", *_circumstances(stage), *_figures(stage)]
        lines += [text for note in stage.details.get("notes", []) for text in ("", note)]
        if "profile" in stage.details:
            lines += ["", *_profile(stage.details["profile"])]
    return "\n".join(lines) + "\n"


def _goals(results: Results) -> list[str]:
    rows = [
        (
            stage,
            goal.text,
            _number(goal.value),
            f"{'>=' if goal.at_least else '<='} {_number(goal.limit)}",
            goal.met,
        )
        for stage, found in results.stages.items()
        for goal in found.goals
    ]
    if not rows:
        return []
    head = ["| stage | goal | found | asked | |", "|---|---|---|---|---|"]
    return head + [
        f"| {s} | {t} | {v} | {a} | {'met' if met else '**not met**'} |" for s, t, v, a, met in rows
    ]


def _circumstances(stage: StageResult) -> list[str]:
    """Returns when and with what a stage ran: stages may be of different runs."""
    machine = stage.details.get("machine")
    if machine is None:
        return []
    busy = ", **on a busy machine: don't quote**" if machine["load_before"] > BUSY_LOAD else ""
    text = (
        f"{stage.details['impressions']:,} impressions, commit {machine['commit']}, {machine['date']}{busy}."
    )
    return [text, ""]


def _figures(stage: StageResult) -> list[str]:
    lines = [f"| who | figure | unit | {OURS} / who |", "|---|---|---|---|"]
    lines += [
        f"| {figure.name} | {_number(figure.value)} | {figure.unit} | {_ratio(stage, figure)} |"
        for figure in stage.figures
    ]
    return lines


def _ratio(stage: StageResult, figure: Figure) -> str:
    ours = counterpart(stage, figure)
    return f"{ours.value / figure.value:.2f}x" if ours is not None and figure.value else ""


def counterpart(stage: StageResult, figure: Figure) -> Figure | None:
    """Returns our figure that a peer's is held against: of the same shape and unit, or None for our own."""
    if figure.name.startswith(OURS) or figure.unit not in _RATE_UNITS:
        return None
    shape = ", single-valued" if figure.name.endswith("single-valued") else ""
    return next((f for f in stage.figures if f.name == OURS + shape and f.unit == figure.unit), None)


def _profile(profile: dict[str, Any]) -> list[str]:
    lines = [
        f"A step of {profile['step_s'] * 1e3:.1f} ms ({profile['threads']} threads); "
        f"its matrix products run at {profile['product_gflops']:.0f} GFLOP/s, "
        f"sgemm of this machine at {profile['sgemm_gflops']:.0f}.",
        "",
        "| kind of work | share of a step |",
        "|---|---|",
    ]
    lines += [f"| {kind} | {100 * share:.1f}% |" for kind, share in profile["share"].items()]
    lines += ["", "| operator | calls | ms a step |", "|---|---|---|"]
    lines += [f"| `{o['name']}` | {o['calls']} | {o['ms_per_step']:.2f} |" for o in profile["operators"][:15]]
    return lines


def _number(value: float) -> str:
    """Returns 1,234 / 12.3 / 0.123: three digits, and all of a large number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def plot(results: Results, path: Path) -> None:
    """Writes a PNG with a panel per stage: bars of impressions/s, and beside each peer our ratio to it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [
        (name, [figure for figure in stage.figures if figure.unit in _RATE_UNITS], stage)
        for name, stage in results.stages.items()
    ]
    panels = [(name, figures, stage) for name, figures, stage in panels if figures]
    if not panels:
        return
    heights = [0.6 + 0.35 * len(figures) for _, figures, _ in panels]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(9, sum(heights)), squeeze=False, height_ratios=heights
    )
    for axis, (name, figures, stage) in zip(axes[:, 0], panels, strict=True):
        colours = ["tab:blue" if f.name.startswith(OURS) else "tab:gray" for f in figures]
        bars = axis.barh([f.name for f in figures], [f.value for f in figures], color=colours)
        labels = [f"{f.value:,.0f}  {_ratio(stage, f)}".rstrip() for f in figures]
        axis.bar_label(bars, labels, padding=3, fontsize=8)
        axis.set_title(f"{name}: {figures[0].unit} (behind a peer: {OURS} / peer)", fontsize=9, loc="left")
        axis.invert_yaxis()
        axis.tick_params(labelsize=8)
        axis.margins(x=0.25)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
