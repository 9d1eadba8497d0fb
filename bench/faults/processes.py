"""The processes of a command, whoever started them: they carry a mark in their environment."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

MARK = "ESMM_SPARK_FAULTS"


def marked(folder: Path) -> list[int]:
    """Returns the processes whose environment names the folder, zombies aside."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def until_gone(folder: Path, limit_s: float) -> list[int]:
    """Waits until no process of the folder is left; returns those that are after `limit_s`."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if not (left := marked(folder)):
            return []
        time.sleep(0.1)
    return left


def kill(processes: Sequence[int]) -> None:
    """Sends SIGKILL to all of them."""
    for pid in processes:
        send(pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal, if the process is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
