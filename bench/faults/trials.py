"""One fault at a random moment of a command, and whether all is whole after it and after a rerun."""

import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.faults.contents import Contents, contents, litter
from bench.faults.kinds import Fault, fault_of
from bench.faults.processes import MARK, kill, marked, until_gone
from bench.faults.scenarios import Scenario
from bench.machine import describe_machine
from bench.measure import ROOT, environment
from esmm_spark.doctor.finding import Outcome
from esmm_spark.doctor.paths import check_counts_of_dataset
from tests.files.disks import NotMountableError

# Processes of a command that is killed, or refused something, have so long to end.
MOST_SECONDS = 60.0
_MOST_RUN_S = 600.0
_MOST_TRIES = 4
NOT_RUN = "not run"
_DAY = re.compile(r"ds=\d{4}-\d\d-\d\d")
# What tells of all days: it changes with each of them.
_OF_ALL_DAYS = ("manifest.json", "inputs.json")


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
        commit: of the code that was hit.
        hit: whether it was still running then, and felt it.
        ended_s: seconds until the last of its processes had ended.
        left: `before`, `after`, or what else was found in the command's folder; NOT_RUN and the reason.
        wrong: what is not as it has to be; empty where all is well.
    """

    scenario: str
    fault: str
    at_s: float
    commit: str = ""
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
        disk: the folder is below it.
        log: where the output of the last command goes.
        inputs: what commands read lies below this folder.
    """

    def __init__(self, disk: Path, log: Path, inputs: Path) -> None:
        self.disk, self.log, self.inputs = disk, log, inputs
        self.folder, self.commit = disk / "trial", str(describe_machine()["commit"])

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

    def disturb(self, scenario: Scenario, known: Undisturbed, kind: str, draw: random.Random) -> Trial:
        """Makes a fault at a random moment; two of three come after the command's first file.

        One that comes after the command's end is made again, sooner: undisturbed it may have taken longer.
        """
        begin, end = known.first_file_s if draw.random() < 2 / 3 else 0.0, known.seconds
        for _ in range(_MOST_TRIES):
            at_s = round(draw.uniform(min(begin, end), end), 2)
            trial = Trial(scenario.name, kind, at_s, self.commit)
            try:
                with fault_of(kind, self.disk, self.inputs) as fault:
                    ended_s = self._strike(scenario, known, fault, trial, draw)
                    self._judge(scenario, known, trial)
            except NotMountableError as error:
                trial.hit, trial.left = False, f"{NOT_RUN}: {error}"
                break
            if ended_s is None or trial.wrong:
                break
            begin, end = begin * ended_s / end, ended_s
        return trial

    def _strike(
        self, scenario: Scenario, known: Undisturbed, fault: Fault, trial: Trial, draw: random.Random
    ) -> float | None:
        """Starts the command, makes the fault, and waits for the end of all processes.

        Returns:
            The seconds to the command's end, if that was before the fault, which is not made then.
        """
        scenario.prepare(self.folder)
        with self._started(scenario, fault.environ) as process:
            started = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                process.wait(trial.at_s)
            if process.poll() is not None:
                trial.hit = False
                return time.monotonic() - started
            fault.strike(process.pid, marked(self.folder), draw)
            struck_s = time.monotonic()
            # A machine that others use, too, is at one time half as fast as at another.
            limit = MOST_SECONDS + 2 * known.seconds * fault.may_go_on
            left = until_gone(self.folder, limit)
            trial.ended_s = round(time.monotonic() - struck_s, 1)
            if left:
                trial.wrong.append(f"after {limit:.0f} s {len(left)} processes still run: {left}")
                kill(left)
        trial.hit = fault.was_felt()
        fault.mend()
        wrong = fault.wrong_end(process.returncode, self._lines())
        trial.wrong += [wrong] if wrong and not left else []
        return None

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
            if not _is_between(scenario, target, left, known):
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

    @contextmanager
    def _started(
        self, scenario: Scenario, environ: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Starts the command in a session of its own; no process of it is left at the end."""
        words = [sys.executable if word == "python" else word for word in scenario.command(self.folder)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=environment({MARK: str(self.folder), **(environ or {})}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                kill(marked(self.folder))
                process.wait()

    def _until_files(self, process: subprocess.Popen[bytes], started: float) -> float:
        """Returns the seconds until anything in the folder has changed."""
        known = _listed(self.folder)
        while process.poll() is None and _listed(self.folder) == known:
            time.sleep(0.05)
        return time.monotonic() - started

    def _said(self) -> str:
        return " | ".join(self._lines()[-5:])

    def _lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()


def _is_between(scenario: Scenario, target: Path, left: Contents, known: Undisturbed) -> bool:
    """Returns whether a half-way state is one that its readers see through.

    A training's checkpoints are its own until it is published, simulated logs are complete with their marker.
    Days of event logs are published one after the other.
    """
    if scenario.writes == "model":
        return not any(name.startswith("versions/") for name in left)
    if scenario.writes == "raw":
        return "_SUCCESS" not in left
    is_by_day = any(_DAY.search(name) for name in known.after)
    return is_by_day and days_are_whole(left, known) and _agrees_with_its_manifest(target)


def days_are_whole(left: Contents, known: Undisturbed) -> bool:
    """Returns whether each day is as before or as after, and so is each file of no day but the manifest's."""

    def of(found: Contents) -> dict[str, Contents]:
        parts: dict[str, Contents] = {}
        for name, digest in found.items():
            day = _DAY.search(name)
            if name not in _OF_ALL_DAYS:
                parts.setdefault(day[0] if day else name, {})[name] = digest
        return parts

    parts, before, after = of(left), of(known.before), of(known.after)
    names = parts.keys() | before.keys() | after.keys()
    return all(parts.get(name) in (before.get(name), after.get(name)) for name in names)


def _agrees_with_its_manifest(dataset: Path) -> bool:
    findings = list(check_counts_of_dataset(str(dataset)))
    return bool(findings) and all(finding.outcome is Outcome.OK for finding in findings)


def _listed(folder: Path) -> set[tuple[str, int]]:
    found = set()
    for path in folder.rglob("*"):
        try:
            found.add((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found
