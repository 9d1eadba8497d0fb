"""One fault at a random moment of a command, and whether all is whole after it and after a rerun."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.faults.contents import Contents, contents, litter
from bench.faults.scenarios import Scenario
from bench.measure import ROOT, environment

# A killed command's other processes have so long to end.
MOST_SECONDS = 60.0
_MOST_RUN_S = 600.0
_STOPPED_S = 5.0
_MARK = "ESMM_SPARK_FAULTS"
# The whole tree at once is what a power cut or a container's end does.
FAULTS = ("kill the tree", "kill the command", "kill one process", "stop one process")


@dataclass
class Undisturbed:
    """What a command does when nothing disturbs it.

    Attributes:
        seconds: from its start to its end.
        first_file_s: from its start to its first file.
        before: what lies there before it.
        after: what lies there afterwards.
    """

    seconds: float
    first_file_s: float
    before: Contents
    after: Contents


@dataclass
class Trial:
    """What came of a fault.

    Attributes:
        scenario: what was hit.
        fault: by what.
        at_s: seconds after the command's start.
        hit: whether it was still running then.
        ended_s: seconds until the last of its processes had ended.
        left: `before`, `after`, or what else was found in the command's folder.
        wrong: what is not as it has to be; empty where all is well.
    """

    scenario: str
    fault: str
    at_s: float
    hit: bool = True
    ended_s: float = 0.0
    left: str = ""
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Returns it for the results."""
        return asdict(self)


class Lab:
    """Runs commands in a folder of its own and disturbs them.

    Args:
        folder: emptied before each run.
        log: where the output of the last command goes.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self.log = folder, log

    def undisturbed(self, scenario: Scenario) -> Undisturbed:
        """Runs the command twice in folders that look the same, and requires the same content.

        Raises:
            AssertionError: it failed, or wrote something else the second time.
        """
        found = []
        for _ in range(2):
            scenario.prepare(self.folder)
            target = self.folder / scenario.writes
            before = contents(target)
            started = time.monotonic()
            with self._started(scenario) as process:
                first_file_s = self._until_files(process, started)
                process.wait(_MOST_RUN_S)
            seconds = time.monotonic() - started
            assert process.returncode == 0, f"{scenario.name}: {self._said()}"
            found.append(Undisturbed(seconds, first_file_s, before, contents(target)))
            assert not litter(target), f"{scenario.name}: {litter(target)}"
        first, second = found
        differ = {
            name
            for name in first.after.keys() | second.after
            if first.after.get(name) != second.after.get(name)
        }
        assert not differ, f"{scenario.name}: two undisturbed runs differ in {sorted(differ)}"
        return second

    def disturb(self, scenario: Scenario, known: Undisturbed, fault: str, draw: random.Random) -> Trial:
        """Hits the command at a random moment; two of three hits come after its first file."""
        scenario.prepare(self.folder)
        begin = known.first_file_s if draw.random() < 2 / 3 else 0.0
        trial = Trial(scenario.name, fault, round(draw.uniform(begin, known.seconds), 2))
        with self._started(scenario) as process:
            time.sleep(trial.at_s)
            trial.hit = process.poll() is None
            self._hit(process, fault, draw)
            hit_s = time.monotonic()
            limit = MOST_SECONDS + (_MOST_RUN_S if fault == FAULTS[-1] else 0.0)
            left = self._until_gone(process, limit)
            trial.ended_s = round(time.monotonic() - hit_s, 1)
            if left:
                trial.wrong.append(f"after {limit:.0f} s {len(left)} processes still run: {left}")
                _kill(left)
        self._judge(scenario, known, trial)
        return trial

    def _judge(self, scenario: Scenario, known: Undisturbed, trial: Trial) -> None:
        """Looks at what is left, runs the command again and looks once more."""
        target = self.folder / scenario.writes
        left = contents(target)
        if left == known.after:
            trial.left = "after"
        elif left == known.before:
            trial.left = "before"
        else:
            changed = [name for name, digest in known.before.items() if left.get(name) != digest]
            added = sorted(left.keys() - known.before.keys())
            trial.left = f"{len(changed)} files changed or gone, {len(added)} more"
            if not _is_between(scenario, left):
                trial.wrong.append(f"what was there is not whole: {changed[:5]}, more: {added[:5]}")
        with self._started(scenario) as process:
            process.wait(_MOST_RUN_S)
        if process.returncode != 0:
            trial.wrong.append(f"the rerun ended with {process.returncode}: {self._said()}")
        after = contents(target)
        differ = sorted(
            name for name in after.keys() | known.after if after.get(name) != known.after.get(name)
        )
        if differ:
            trial.wrong.append(f"after the rerun {differ[:5]} differ")
        hidden = litter(self.folder)
        if hidden:
            trial.wrong.append(f"litter after the rerun: {hidden[:5]}")

    def _hit(self, process: subprocess.Popen[bytes], fault: str, draw: random.Random) -> None:
        tree = _marked(self.folder)
        if fault == "kill the tree":
            _kill(tree)
        elif fault == "kill the command":
            _signal(process.pid, signal.SIGKILL)
        elif fault == "kill one process":
            _signal(draw.choice(tree or [process.pid]), signal.SIGKILL)
        else:
            stopped = draw.choice(tree or [process.pid])
            _signal(stopped, signal.SIGSTOP)
            time.sleep(_STOPPED_S)
            _signal(stopped, signal.SIGCONT)

    @contextmanager
    def _started(self, scenario: Scenario) -> Iterator[subprocess.Popen[bytes]]:
        """Starts the command in a session of its own; no process of it is left at the end."""
        words = [sys.executable if word == "python" else word for word in scenario.command(self.folder)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=environment({_MARK: str(self.folder)}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                _kill(_marked(self.folder))
                process.wait()

    def _until_files(self, process: subprocess.Popen[bytes], started: float) -> float:
        """Returns the seconds until anything in the folder has changed."""
        known = _listed(self.folder)
        while process.poll() is None and _listed(self.folder) == known:
            time.sleep(0.05)
        return time.monotonic() - started

    def _until_gone(self, process: subprocess.Popen[bytes], limit_s: float) -> list[int]:
        """Waits until no process of the command is left; returns those that are after `limit_s`."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            process.poll()
            if not (left := _marked(self.folder)):
                return []
            time.sleep(0.1)
        return left

    def _said(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:])


def _is_between(scenario: Scenario, left: Contents) -> bool:
    """Returns whether a half-way state is one that its readers see through.

    A training's checkpoints are its own until it is published, simulated logs are complete with their marker.
    """
    if scenario.writes == "model":
        return not any(name.startswith("versions/") for name in left)
    return scenario.writes == "raw" and "_SUCCESS" not in left


def _listed(folder: Path) -> set[tuple[str, int]]:
    found = set()
    for path in folder.rglob("*"):
        try:
            found.add((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found


def _marked(folder: Path) -> list[int]:
    """Returns the processes whose environment names the folder, zombies aside."""
    mark = f"{_MARK}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def _kill(processes: Sequence[int]) -> None:
    for pid in processes:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
