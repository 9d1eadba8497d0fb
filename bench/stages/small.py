"""Runs of little data, from the command to its exit: what starts and plans cost; and the demos."""

import json
import time
from pathlib import Path
from tempfile import NamedTemporaryFile

from bench.event_logs import DAY, days_before, write_days_before
from bench.measure import ROOT, Usage, measured_worker
from bench.results import OURS, StageResult
from bench.stages.events import day_config
from bench.workspace import PREPROCESS, Workspace, say
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import storage

_ROUNDS = 2
# Impressions of a day -> seconds that it may take.
_DAYS = {60: 12.0, 50_000: 34.0}
_EARLIER_DAYS, _BACKFILL_S = 30, 10.0
_LINES, _LINES_S = 20_000, 8.0
# Script -> the folder that it writes, and the seconds that all of it may take.
_DEMOS = {"demo": ("demo", 90.0), "demo_table": ("demo-table", 240.0)}
# A log of a few lines has hardly a click, and none that converts.
_RARE = ("--allow-missing", "clicks,conversions")


def run(workspace: Workspace) -> StageResult:
    """Measures days of event logs, what a look back adds to one, raw lines, each twice, and the demos."""
    result = StageResult()
    for size, limit_s in _DAYS.items():
        command = [*PREPROCESS, "--config", str(day_config(workspace, "even", size)), "--ds", DAY, *_RARE]
        name = f"a day of {size:,} impressions, command to exit"
        best = _add(result, name, [workspace.run(f"small-{size}", command) for _ in range(_ROUNDS)])
        result.ask(f"{name}, s", best, limit_s, at_least=False)
    _measure_backfill(workspace, result)
    config = workspace.config("small-lines", workspace.raw(_LINES))
    runs = [workspace.run("small-lines", [*PREPROCESS, "--config", str(config)]) for _ in range(_ROUNDS)]
    name = f"preprocess of {_LINES:,} raw lines, command to exit"
    result.ask(f"{name}, s", _add(result, name, runs), _LINES_S, at_least=False)
    for script in _DEMOS:
        _measure_demo(workspace, result, script)
    return result


def _measure_demo(workspace: Workspace, result: StageResult, script: str) -> None:
    """Adds a demo, with what its commands' records say that they took; .venv is there."""
    folder, limit_s = _DEMOS[script]
    say(f"small: scripts/{script}.sh")
    began_s = time.time()
    usage = workspace.run(script, [str(ROOT / "scripts" / f"{script}.sh")])
    records = _records(ROOT / folder, began_s)
    result.add(f"{OURS}, scripts/{script}.sh", usage.wall_s, "s", **usage.as_details(), records=records)
    for name, record in records.items():
        result.add(f"{script}: {name}", record["seconds"], "s")
    between_s = usage.wall_s - sum(record["seconds"] for record in records.values())
    result.add(f"{script}: starts before and ends after these", between_s, "s")
    result.ask(f"scripts/{script}.sh, s", usage.wall_s, limit_s, at_least=False)


def _records(folder: Path, after_s: float) -> dict[str, dict[str, float]]:
    """Returns command and output -> the seconds of a run since then and of its steps, in order."""
    paths = [*folder.glob("*.run.json"), *folder.glob("*.runs/*.json")]
    records = [json.loads(path.read_text()) for path in paths if path.stat().st_mtime > after_s]
    return {
        f"{record['command']} {Path(record['output']).name}": {
            "seconds": record["seconds"],
            **{stage["name"]: stage["seconds"] for stage in record["stages"]},
        }
        for record in sorted(records, key=lambda record: str(record["started_at"]))
    }


def _measure_backfill(workspace: Workspace, result: StageResult) -> None:
    """Adds a day with and without a look back over earlier days whose files are the same as before."""
    config = _config_of_many_days(workspace)
    command = [*PREPROCESS, "--config", str(config), "--ds", DAY, *_RARE]
    back = [*command, "--backfill-days", str(_EARLIER_DAYS)]
    say(f"small: a day, looking {_EARLIER_DAYS} days back")
    # Those that were never looked at from here are read once.
    first = workspace.run("small-backfill-first", back)
    result.add(
        f"{OURS}, {_EARLIER_DAYS} earlier days, looked at first", first.wall_s, "s", **first.as_details()
    )
    alone, looking = [], []
    for _ in range(_ROUNDS):
        alone.append(workspace.run("small-alone", command))
        looking.append(workspace.run("small-backfill", back))
    added = _add(result, f"{_EARLIER_DAYS} unchanged earlier days", looking) - _add(
        result, "the same day alone", alone
    )
    text = f"what {_EARLIER_DAYS} unchanged earlier days add to a day, s"
    result.ask(text, added, _BACKFILL_S, at_least=False)


def _config_of_many_days(workspace: Workspace) -> Path:
    """Returns the config of a dataset that has all of the earlier days."""
    config = day_config(workspace, "even", 61)
    base = workspace.root / "events-even-61"
    if not storage.is_complete(str(base)):
        say(f"small: building {_EARLIER_DAYS} days")
        write_days_before(base / "logs", _EARLIER_DAYS + 2)
        runs = [["--config", str(config), "--ds", day, *_RARE] for day in [*days_before(_EARLIER_DAYS), DAY]]
        with NamedTemporaryFile("w", suffix=".json") as listed:
            json.dump(runs, listed)
            listed.flush()
            measured_worker(
                "bench.workers.runs_in_turn", [PREPROCESS[-1], listed.name], workspace.log("small-days")
            )
        (base / MARKER).touch()
    return config


def _add(result: StageResult, name: str, runs: list[Usage]) -> float:
    """Adds the best run and returns its seconds."""
    best = min(runs, key=lambda usage: usage.wall_s)
    result.add(f"{OURS}, {name}", best.wall_s, "s", rounds=[usage.as_details() for usage in runs])
    return best.wall_s
