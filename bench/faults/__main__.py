"""Disturbs every command at random moments and counts what came of it; holds mutated lines to oracles.

    python -m bench.faults --kills 100 --others 60    goes on from where it stopped
    python -m bench.faults --again                   repeats those that went wrong or were not felt
    python -m bench.faults --fuzz 1000000 --seed 1   as many raw lines, and a tenth as many rows of events

After a fault what was there must be whole, no process may stay for over 60 seconds, and a rerun must end with
the content of an undisturbed run, without litter. Writes bench/results/faults.{json,md}; returns 1 if
anything went wrong.
"""

import argparse
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from bench.faults.event_fuzz import fuzz_events
from bench.faults.kinds import KILLS, OTHERS
from bench.faults.line_fuzz import fuzz_lines
from bench.faults.report import write_results
from bench.faults.scenarios import Inputs
from bench.faults.trials import Lab, Undisturbed
from bench.measure import ROOT, environment
from bench.workspace import Workspace, say
from esmm_spark.spark.session import job_session


def main() -> int:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=0, help="SIGKILLs, over all commands in turns")
    parser.add_argument("--others", type=int, default=0, help="stops, full disks, read errors, clock jumps")
    parser.add_argument("--fuzz", type=int, default=0, help="raw lines, each other one mutated")
    parser.add_argument("--again", action="store_true", help="repeat what went wrong or was not felt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "work")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    done = work / f"faults-{arguments.seed}.jsonl"
    workspace = Workspace(work, 30_000)
    wanted = {KILLS: arguments.kills, OTHERS: arguments.others}
    trials = disturb(workspace, wanted, arguments.seed, done, again=arguments.again)
    fuzzed = fuzz_all(work / "fuzz", arguments.fuzz, arguments.seed) if arguments.fuzz else None
    return write_results(arguments.results, trials, fuzzed, arguments.seed)


def fuzz_all(folder: Path, lines: int, seed: int) -> dict[str, Any]:
    """Returns what came of mutated raw lines, and of a tenth as many rows of events."""
    os.environ.update(environment())
    with job_session("faults") as spark:
        return {
            "lines": fuzz_lines(spark, folder / "lines", lines, seed),
            "events": fuzz_events(spark, folder / "events", lines // 10, seed),
        }


def disturb(
    workspace: Workspace, wanted: dict[tuple[str, ...], int], seed: int, done: Path, *, again: bool = False
) -> list[dict[str, Any]]:
    """Returns the trials; those that `done` has a line of are not run again.

    Args:
        workspace: where all of them work.
        wanted: kinds of faults -> how many trials are to have one of them.
        seed: of the moments.
        done: what came of each trial, a line each.
        again: run those again in which something went wrong, or whose command did not feel the fault.
    """
    trials = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
    todo: list[tuple[int, tuple[str, ...]]] = [
        (number, (trial["fault"],))
        for number, trial in enumerate(trials)
        if again and (trial["wrong"] or not trial["hit"])
    ]
    first = len(trials)
    for kinds, number in wanted.items():
        missing = number - sum(trial["fault"] in kinds for trial in trials)
        todo += [(first + count, kinds) for count in range(missing)]
        first += max(0, missing)
    if not todo:
        return trials
    inputs = Inputs(workspace)
    scenarios = inputs.scenarios()
    lab = Lab(workspace.root / "faults-disk", workspace.log("faults-trial"), inputs.root)
    known: dict[str, Undisturbed] = {}
    for count, (number, kinds) in enumerate(todo, 1):
        scenario = scenarios[number % len(scenarios)]
        draw = random.Random(f"{seed}-{number}")
        kind = draw.choice(kinds)
        if scenario.name not in known:
            say(f"faults: {scenario.name}, undisturbed")
            known[scenario.name] = lab.undisturbed(scenario)
        trial = lab.disturb(scenario, known[scenario.name], kind, draw)
        print(
            f"{count} of {len(todo)}: {scenario.name}, {kind} at {trial.at_s} s: left {trial.left}, "
            f"{'; '.join(trial.wrong) or 'well'}",
            flush=True,
        )
        trials[number : number + 1] = [trial.as_json()]
        done.write_text("".join(json.dumps(each) + "\n" for each in trials), encoding="utf-8")
    return trials


if __name__ == "__main__":
    sys.exit(main())
