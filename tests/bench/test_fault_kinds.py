"""The faults themselves: they reach a command, and what the command makes of them is judged."""

import random
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bench.faults.kinds import KILLS, OTHERS, Fault, fault_of
from bench.faults.scenarios import Scenario
from bench.faults.trials import NOT_RUN, Lab
from tests.files.disks import NotMountableError

pytestmark = pytest.mark.slow

DRAW = random.Random(1)


def made(stack: ExitStack, kind: str, folder: Path) -> tuple[Fault, Path]:
    """Returns the fault and the disk that it is made for."""
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    try:
        return stack.enter_context(fault_of(kind, disk, folder / "inputs")), disk
    except NotMountableError as error:
        pytest.skip(f"nothing can be mounted here: {error}")


def python(fault: Fault, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=dict(fault.environ), capture_output=True, text=True, timeout=60
    )


def test_reads_of_inputs_fail_from_the_fault_on_and_no_others(tmp_path: Path) -> None:
    for name in ("inputs", "others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("content")
    with ExitStack() as stack:
        fault, _ = made(stack, "read errors", tmp_path)
        read = {
            name: f"print(open({str(tmp_path / name / 'file')!r}).read())" for name in ("inputs", "others")
        }
        assert python(fault, read["inputs"]).stdout == "content\n"
        fault.strike(0, [], DRAW)
        assert python(fault, read["others"]).stdout == "content\n"
        assert not fault.was_felt()
        assert "Input/output error" in python(fault, read["inputs"]).stderr
        assert fault.was_felt()


def test_the_time_of_the_day_jumps_and_waiting_takes_as_long_as_before(tmp_path: Path) -> None:
    code = "import threading, time; a = time.monotonic(); threading.Event().wait(0.1); "
    code += "print(time.time(), time.monotonic() - a)"
    with ExitStack() as stack:
        fault, _ = made(stack, "clock jump", tmp_path)
        assert abs(float(python(fault, code).stdout.split()[0]) - time.time()) < 60
        fault.strike(0, [], DRAW)
        told_s, waited_s = map(float, python(fault, code).stdout.split())
    assert round(abs(told_s - time.time()), -2) in (3600, 86_400)
    assert 0.1 <= waited_s < 5


def test_a_full_disk_takes_nothing_until_it_is_mended(tmp_path: Path) -> None:
    with ExitStack() as stack:
        fault, disk = made(stack, "full disk", tmp_path)
        fault.strike(0, [], DRAW)
        with pytest.raises(OSError, match="No space left on device"):
            (disk / "file").write_bytes(b"x" * 65536)
        fault.mend()
        (disk / "file").write_bytes(b"x" * 65536)


LINE = "error: no room to write x"
TRACE = "Traceback (most recent call last):"
OF_HOROVODRUN = ("RuntimeError: Horovod detected", "Process name: [0]", "Exit code: 2")


@pytest.mark.parametrize(
    ("kind", "code", "lines", "is_right"),
    [
        ("kill the command", -9, [], True),
        ("clock jump", 0, [], True),
        ("clock jump", 2, [LINE], False),
        ("stop one process", 1, [LINE], False),
        ("read errors", 0, [], True),
        ("read errors", 2, [LINE], True),
        ("read errors", 2, [], False),
        ("read errors", 1, [LINE], False),
        ("read errors", 2, [TRACE, LINE], False),
        ("read errors", 1, [LINE, TRACE, *OF_HOROVODRUN], True),
        ("read errors", 1, [f"[1]<stderr>:{LINE}", TRACE, *OF_HOROVODRUN], True),
        ("read errors", 1, [TRACE, LINE, TRACE, *OF_HOROVODRUN], False),
        ("read errors", 1, [LINE, f"[1]<stderr>:{TRACE}", TRACE, *OF_HOROVODRUN], False),
        ("read errors", 1, [TRACE, *OF_HOROVODRUN], False),
    ],
)
def test_a_command_has_to_go_on_or_to_say_why_it_ends(
    tmp_path: Path, kind: str, code: int, lines: list[str], is_right: bool
) -> None:
    assert kind in (*KILLS, *OTHERS)
    with ExitStack() as stack:
        fault, _ = made(stack, kind, tmp_path)
        assert (fault.wrong_end(code, lines) == "") is is_right


WELL = """
import os, sys, time
try:
    time.sleep(0.5)
    with open("part.new", "wb") as file:
        file.write(b"x" * 65536)
    os.replace("part.new", "part")
except OSError as error:
    os.unlink("part.new")
    sys.exit(print(f"error: no room: {error}", file=sys.stderr) or 2)
"""


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ("", "", None),
        ('"part.new"', '"part"', "what was there is not whole"),
        ("    os.unlink", "    time.sleep(99)\n    os.unlink", "processes still run"),
        ("error: ", "", "it ended with 2, not 0 or a line for people: no room: [Errno 28]"),
    ],
)
def test_what_a_command_does_wrong_on_a_full_disk_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, found: str | None
) -> None:
    monkeypatch.setattr("bench.faults.trials.MOST_SECONDS", 3.0)
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "part").write_text("before")
    code = WELL.replace(right, wrong) if right else WELL
    scenario = Scenario(
        "writer",
        "out",
        lambda to: ["python", "-c", f"import os\nos.chdir({str(to / 'out')!r})\n{code}"],
        tmp_path / "before",
    )
    lab = Lab(tmp_path / "disk", tmp_path / "log", tmp_path)
    # It comes before anything is written.
    known = replace(lab.undisturbed(scenario), first_file_s=0.0, seconds=0.2)
    trial = lab.disturb(scenario, known, "full disk", DRAW)
    if trial.left.startswith(NOT_RUN):
        pytest.skip(trial.left)
    assert trial.hit
    if found is None:
        assert trial.wrong == []
    else:
        assert any(found in text for text in trial.wrong), trial
