"""Measures the stages in turn and writes bench/results/bench.{json,md,png}.

    python -m bench                                  all stages
    python -m bench --stage train --stage ranks      some of them; the others' results stay as they are
    python -m bench --stage preprocess --impressions 10000000
    python -m bench --stage full                     the pipeline on 42 million impressions, 45 GB of disk

Ratios between figures of one run count. Run it on a machine that does nothing else.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import report
from bench.machine import describe_machine
from bench.measure import ROOT, FailedCommandError
from bench.results import Results, StageResult, load_results
from bench.stages import (
    evaluate,
    events,
    full,
    growth,
    histories,
    integrity,
    load,
    memory,
    networks,
    objectives,
    preprocess,
    ranks,
    score,
    small,
    startup,
    tables,
    train,
)
from bench.workspace import Workspace

STAGES = (
    "preprocess",
    "tables",
    "load",
    "integrity",
    "train",
    "objectives",
    "networks",
    "histories",
    "ranks",
    "score",
    "evaluate",
    "startup",
    "memory",
    "growth",
    "events",
    "small",
)
# Take too much time and disk to run unasked.
OPT_IN = ("full",)


def stages(arguments: argparse.Namespace) -> dict[str, Callable[[Workspace], StageResult]]:
    """Returns name -> function of every stage."""
    return {
        "preprocess": preprocess.run,
        "tables": tables.run,
        "load": load.run,
        "integrity": integrity.run,
        "train": train.run,
        "objectives": objectives.run,
        "networks": networks.run,
        "histories": histories.run,
        "ranks": ranks.run,
        "score": score.run,
        "evaluate": lambda workspace: evaluate.run(workspace, tuple(arguments.evaluate_sizes)),
        "startup": startup.run,
        "growth": lambda workspace: growth.run(
            workspace, tuple(arguments.sizes), tuple(arguments.arena_rows)
        ),
        "memory": lambda workspace: memory.run(workspace, arguments.memory_impressions),
        "events": lambda workspace: events.run(workspace, tuple(arguments.event_sizes)),
        "small": small.run,
        "full": lambda workspace: full.run(workspace, arguments.full_impressions),
    }


def main() -> int:
    """Runs what the command line names; returns 1 if a stage failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--stage", action="append", choices=(*STAGES, *OPT_IN), help="may be given several times"
    )
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1, help="of the simulated logs")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(growth.SIZES), help="impressions, for growth"
    )
    parser.add_argument(
        "--arena-rows", type=int, nargs="+", default=list(growth.ARENA_ROWS), help="for growth"
    )
    parser.add_argument("--memory-impressions", type=int, default=10_000_000, help="for memory")
    parser.add_argument("--event-sizes", type=int, nargs="+", default=list(events.SIZES), help="for events")
    parser.add_argument(
        "--evaluate-sizes", type=int, nargs="+", default=list(evaluate.SIZES), help="for evaluate"
    )
    parser.add_argument(
        "--full-impressions", type=int, default=full.IMPRESSIONS, help="of both splits, for full"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "work", help="where data is kept")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    arguments = parser.parse_args()
    workspace = Workspace(arguments.work.resolve(), arguments.impressions, arguments.seed)
    json_path = arguments.results / "bench.json"
    results = Results(describe_machine(), {"impressions": arguments.impressions, "seed": arguments.seed})
    if arguments.stage and json_path.exists():
        results.stages = load_results(json_path).stages
    if results.machine["load_before"] > report.BUSY_LOAD:
        print(
            f"warning: load {results.machine['load_before']}: the figures will be of a busy machine",
            flush=True,
        )
    failed = False
    for name in arguments.stage or STAGES:
        started = time.monotonic()
        print(f"{name}", flush=True)
        try:
            results.stages[name] = stages(arguments)[name](workspace)
        except FailedCommandError as error:
            print(f"{name} failed: {error}", file=sys.stderr, flush=True)
            failed = True
            continue
        results.stages[name].details["machine"] = results.machine
        results.stages[name].details["impressions"] = arguments.impressions
        results.save(json_path)
        (arguments.results / "bench.md").write_text(report.markdown(results), encoding="utf-8")
        report.plot(results, arguments.results / "bench.png")
        print(f"  {time.monotonic() - started:.0f} s", flush=True)
    if json_path.exists():
        print((arguments.results / "bench.md").read_text(encoding="utf-8"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
