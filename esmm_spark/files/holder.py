"""The process that holds a lease: its identity, and whether it lives.

A process id alone says little: it is given away again, and means nothing on another host. So a holder is
known by its process id, the time that the process started, and the boot and namespace in which both count.
"""

import getpass
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from esmm_spark.contracts.locations import redacted

# Fields of /proc/<pid>/stat behind the name, which is in brackets and may hold anything.
_STATE, _START_TIME = 0, 19
_ENDED = ("Z", "X", "x")
_MAX_COMMAND = 200


class Holder(BaseModel):
    """Who holds a lease: what its file says."""

    token: Annotated[str, Field(description="Of this run alone.")]
    pid: int
    process_start: Annotated[int, Field(description="Ticks from the host's boot to the process's start.")]
    machine: Annotated[str, Field(description="The boot and the namespace in which `pid` counts.")]
    host: str
    user: str
    command: str
    since: Annotated[str, Field(description="UTC, to the second.")]

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host} ({self.command}), since {self.since} UTC"


def this_process(token: str) -> Holder:
    """Returns this process as the holder of a lease."""
    pid = os.getpid()
    command = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]).strip() or "python"
    return Holder(
        token=token,
        pid=pid,
        process_start=_process_start(pid) or 0,
        machine=this_machine(),
        host=socket.gethostname(),
        user=_user(),
        command=redacted(command)[:_MAX_COMMAND],
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
    )


def this_machine() -> str:
    """Returns what is alike for processes that see one another's process ids, until the host is booted."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def lives(holder: Holder) -> bool | None:
    """Returns whether the holder's process runs; None where that can't be seen from this machine."""
    if holder.machine != this_machine():
        return None
    return _process_start(holder.pid) == holder.process_start


def _process_start(pid: int) -> int | None:
    """Returns when a process started, in ticks since boot; None where there is none or it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in _ENDED else int(fields[_START_TIME])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under an id that has no name.
        return str(os.getuid())
