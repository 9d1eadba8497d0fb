"""The results of faults as JSON and markdown."""

import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.faults.kinds import KILLS
from bench.faults.trials import NOT_RUN
from bench.machine import describe_machine

_NAME = "faults"  # of the results
_COLUMNS = 120
_HEAD = (
    "| command | faults | felt at work | left as before | left as after | left between, in whole parts | "
    "slowest end, s | wrong |",
    "|---|---|---|---|---|---|---|---|",
)


def write_results(
    folder: Path, trials: Sequence[dict[str, Any]], fuzzed: dict[str, Any] | None, seed: int
) -> int:
    """Writes the results as JSON and markdown, prints the latter; returns 1 if anything went wrong.

    Args:
        folder: of the results; what it says of trials or of lines stays where this run had none.
        trials: what came of each fault.
        fuzzed: what came of mutated lines and rows, None where none were asked for.
        seed: of all of them.
    """
    path = folder / f"{_NAME}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"trials": [], "fuzz": None}
    machine = describe_machine()
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "machine": machine,
        "seed": seed,
        "trials": list(trials) or known["trials"],
        "fuzz": fuzzed or known["fuzz"],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    lines = _of_trials(content["trials"], seed) + _of_fuzz(content["fuzz"])
    text = "\n".join(["# Faults", "", *lines]) + "\n"
    (folder / f"{_NAME}.md").write_text(text, encoding="utf-8")
    print(text)
    differ = [line for found in (content["fuzz"] or {}).values() for line in found["differ"]]
    return int(bool(differ) or any(trial["wrong"] for trial in content["trials"]))


def _of_fuzz(fuzzed: dict[str, Any] | None) -> list[str]:
    if fuzzed is None:
        return []
    lines, events = fuzzed["lines"], fuzzed["events"]
    told = (
        f"Of {lines['lines']:,} raw lines, every other one mutated, {lines['impressions']:,} are impressions "
        f"and {sum(lines['rejects'].values()):,} rejects, each as preprocessing in plain Python has it; "
        f"batches that differ: {len(lines['differ'])}. Of {events['rows']:,} rows of event logs, every other "
        f"one told again and mutated, {sum(events['rejects'].values()):,} are rejects, and all impressions "
        f"have the labels of the brute-force join; batches that differ: {len(events['differ'])}."
    )
    return [
        "",
        textwrap.fill(told, _COLUMNS),
        *map(_bullet, [*lines["differ"], *events["differ"]]),
    ]


def _of_trials(trials: Sequence[dict[str, Any]], seed: int) -> list[str]:
    run = [trial for trial in trials if not trial["left"].startswith(NOT_RUN)]
    names = list(dict.fromkeys(trial["scenario"] for trial in run))
    by_fault = Counter(trial["fault"] for trial in run)
    kills = sum(by_fault[kind] for kind in KILLS)
    told = f"Seed {seed}: {kills} kills and {len(run) - kills} other faults at random moments: "
    told += ", ".join(f"{times} x {fault}" for fault, times in sorted(by_fault.items())) + ". "
    commits = Counter(trial["commit"] for trial in run)
    told += "At commits " + ", ".join(f"{commit} ({times})" for commit, times in commits.items()) + "."
    if others := [trial for trial in trials if trial not in run]:
        told += f" {len(others)} were {others[0]['left']}."
    wrong = [
        _bullet(f"{trial['scenario']}, {trial['fault']} at {trial['at_s']} s: {'; '.join(trial['wrong'])}")
        for trial in run
        if trial["wrong"]
    ]
    return [
        textwrap.fill(told, _COLUMNS),
        "",
        *_HEAD,
        *(_row(name, [trial for trial in run if trial["scenario"] == name]) for name in names),
        *([""] if wrong else []),
        *wrong,
    ]


def _bullet(text: str) -> str:
    return textwrap.fill(f"- {text}", _COLUMNS, subsequent_indent="  ", break_long_words=False)


def _row(name: str, trials: Sequence[dict[str, Any]]) -> str:
    left = Counter(trial["left"] if trial["left"] in ("before", "after") else "between" for trial in trials)
    cells = [
        name,
        len(trials),
        sum(trial["hit"] for trial in trials),
        left["before"],
        left["after"],
        left["between"],
        max(trial["ended_s"] for trial in trials),
        sum(bool(trial["wrong"]) for trial in trials),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"
