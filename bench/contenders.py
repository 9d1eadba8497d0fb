"""Who trains how, in turns: a machine that others use, too, is by half faster at one time than at another.

Everybody runs in each turn, and everybody's best counts.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.measure import measured_worker
from bench.results import StageResult
from bench.workspace import Workspace, say

UNIT = "impressions/s"
_TURNS = 2
# What is added to our title -> the mode of `bench.workers.train`. The others train in one way alone.
_KINDS = {"": "loader", ", batches in memory": "memory", ", a validation pass": "validation"}


@dataclass(frozen=True)
class Contender:
    """Who trains how: a worker with its arguments, run in a process of its own in every turn."""

    title: str
    module: str
    arguments: Sequence[str]
    python: str = sys.executable


def in_turns(
    workspace: Workspace, result: StageResult, stage: str, contenders: Sequence[Contender]
) -> dict[str, float]:
    """Adds a figure for each contender, ours for each mode; returns the best rate by title."""
    found: dict[str, list[dict[str, Any]]] = {contender.title: [] for contender in contenders}
    for turn in range(_TURNS):
        for number, contender in enumerate(contenders):
            say(f"{stage}: turn {turn + 1} of {_TURNS}, {contender.title}")
            log = workspace.log(f"{stage}-{number}")
            output, usage = measured_worker(
                contender.module, contender.arguments, log, python=contender.python
            )
            found[contender.title].append({**output, "peak_mib": usage.peak_mib})
    best: dict[str, float] = {}
    for title, turns in found.items():
        rates = [turn["rates"] for turn in turns]
        kinds = _KINDS if isinstance(rates[0], dict) else {"": ""}
        for suffix, kind in kinds.items():
            if kind and kind not in rates[0]:
                continue
            every = [list(rate[kind] if kind else rate) for rate in rates]
            best[title + suffix] = max(map(max, every))
            details = {**turns[0], "rates": every}
            result.add(title + suffix, best[title + suffix], UNIT, **details)
    return best
