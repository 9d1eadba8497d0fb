"""The join of event logs: what skew costs, and how the cost grows with the number of impressions."""

from pathlib import Path
from typing import Any

import yaml

from bench.event_logs import DAY, VARIANTS, event_config, write_event_logs
from bench.measure import ROOT, measured_worker
from bench.results import OURS, StageResult
from bench.workspace import Workspace, say
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import storage

SIZES = (1_000_000, 10_000_000)
_ROUNDS = 2
_SKEWED, _FULLER, _GROWN = 1.5, 1.25, 1.2


def run(workspace: Workspace, sizes: tuple[int, ...] = SIZES) -> StageResult:
    """Measures a day of each kind of logs, then sizes.

    The kinds: evenly spread, with a bot user, with an item that has 30% of the sales.
    Warm rounds in one session: of the sessions' start nobody asks here. The further sizes take minutes: they
    are run once, cold, and what the start costs counts against them.
    """
    result = StageResult()
    found = {(variant, sizes[0]): _measure(workspace, variant, sizes[0], _ROUNDS) for variant in VARIANTS}
    found |= {("even", size): _measure(workspace, "even", size, 1) for size in sizes[1:]}
    for (variant, size), numbers in found.items():
        name = f"{OURS}, {variant}, {size:,}"
        result.add(name, size / numbers["wall_s"], "impressions/s", **numbers)
    even = found["even", sizes[0]]
    for variant, text in (
        ("bot", "a bot user with 20% of the impressions"),
        ("item", "an item with 30% of sales"),
    ):
        skewed = found[variant, sizes[0]]
        for what, key, limit in (("time", "wall_s", _SKEWED), ("peak memory", "peak_mib", _FULLER)):
            result.ask(f"{what} of {text} / evenly spread", skewed[key] / even[key], limit, at_least=False)
    for size in sizes[1:]:
        growth = (found["even", size]["cpu_s"] / size) / (even["cpu_s"] / sizes[0])
        result.ask(f"CPU seconds per impression, {size:,} / {sizes[0]:,}", growth, _GROWN, at_least=False)
    return result


def _measure(workspace: Workspace, variant: str, size: int, rounds: int) -> dict[str, Any]:
    """Returns wall and CPU seconds of the best warm round (of one round: that), the session's peak memory."""
    config = day_config(workspace, variant, size)
    say(f"events: {variant}, {size:,} impressions")
    arguments = ["jobs/preprocess.py", "--rounds", str(rounds), "--", "--config", str(config), "--ds", DAY]
    found, usage = measured_worker(
        "bench.workers.warm_job", arguments, workspace.log(f"events-{variant}-{size}")
    )
    warm = found["runs"][1:] or found["runs"]
    return {
        "wall_s": min(run["wall_s"] for run in warm),
        "cpu_s": min(run["cpu_s"] for run in warm),
        "runs": found["runs"],
        "peak_mib": usage.peak_mib,
    }


def day_config(workspace: Workspace, variant: str, size: int) -> Path:
    """Writes the logs, unless they are there, and the config that reads them; returns the latter's path."""
    base = workspace.root / f"events-{variant}-{size}"
    logs = base / "logs"
    if not storage.is_complete(str(logs)):
        write_event_logs(logs, size, variant, workspace.seed)
        (logs / MARKER).touch()
    content = yaml.safe_load((ROOT / "conf" / "aliccp.yaml").read_text(encoding="utf-8"))
    content["paths"] = {part: str(base / part) for part in ("dataset", "model", "scores", "report")}
    content |= event_config(logs)
    path = workspace.root / "conf" / f"{base.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
