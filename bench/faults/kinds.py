"""The kinds of faults: what each needs before its command starts, does to it, and lets it end with."""

import os
import random
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.faults.processes import kill, send
from tests.files.disks import mounted

_STOPPED_S = 5.0
_JUMPS_S = (-86_400, -3_600, 3_600, 86_400)
_DISK_MIB = 256
_SOURCE = Path(__file__).parent / "shim.c"
_SHARED = struct.Struct("3q")  # shim.c's `struct shared`
_TRACE = "Traceback (most recent call last):"


class Fault:
    """One fault of one trial.

    Attributes:
        environ: what the command's environment needs for it.
        may_go_on: whether the command may come to its end afterwards, if it isn't refused anything.
        goes_on: whether it has to end well in spite of the fault.
    """

    environ: Mapping[str, str] = {}
    may_go_on = True
    goes_on = False

    def strike(self, command: int, tree: Sequence[int], draw: random.Random) -> None:
        """Does it. `command` is the process that was started, `tree` it and all that it has started."""
        raise NotImplementedError

    def was_felt(self) -> bool:
        """Returns whether it reached the command, as far as is known."""
        return True

    def mend(self) -> None:
        """Undoes it, before the command is started again."""

    def wrong_end(self, code: int, lines: Sequence[str]) -> str:
        """Returns what is wrong with how the command ended, by its exit code and what it said; else ''."""
        if self.goes_on and code != 0:
            return f"it ended with {code}: {' | '.join(lines[-5:])}"
        return ""


class Kill(Fault):
    """SIGKILL.

    Args:
        of: to whom, of the command, its tree and a draw.
    """

    may_go_on = False

    def __init__(self, of: Callable[[int, Sequence[int], random.Random], Sequence[int]]) -> None:
        self._of = of

    def strike(self, command: int, tree: Sequence[int], draw: random.Random) -> None:
        """Kills."""
        kill(self._of(command, tree, draw))


class Stop(Fault):
    """Any one process does nothing for five seconds."""

    goes_on = True

    def strike(self, command: int, tree: Sequence[int], draw: random.Random) -> None:
        """Stops it and lets it go on."""
        stopped = draw.choice(tree or [command])
        send(stopped, signal.SIGSTOP)
        time.sleep(_STOPPED_S)
        send(stopped, signal.SIGCONT)


class _Refused(Fault):
    """A fault that the command can't get round, if it still needs what it is refused: it must say so."""

    def wrong_end(self, code: int, lines: Sequence[str]) -> str:
        """Requires exit code 0, or a line for people and no stack trace."""
        told, expected = list(lines), 2
        if any(line.startswith("Exit code: ") for line in lines):
            # horovodrun, whose own trace is the last.
            expected = 1
            told = told[: len(told) - 1 - told[::-1].index(_TRACE)] if _TRACE in told else told
        said, traced = (any(sign in line for line in told) for sign in ("error: ", _TRACE))
        if code == 0 or (code == expected and said and not traced):
            return ""
        return f"it ended with {code}, not 0 or a line for people: {' | '.join(told[-5:])}"


class FullDisk(_Refused):
    """The disk of the command's folder and of Spark's own has no room left until the command has ended.

    Args:
        disk: a file system of its own.
    """

    def __init__(self, disk: Path) -> None:
        self._ballast = disk / "ballast"
        self.environ = {"SPARK_LOCAL_DIRS": str(disk / "scratch")}

    def strike(self, command: int, tree: Sequence[int], draw: random.Random) -> None:
        """Takes all room."""
        with self._ballast.open("wb") as file:
            # The command may take or give back some of it meanwhile.
            for _ in range(10):
                room = os.statvfs(file.fileno())
                with suppress(OSError):
                    os.posix_fallocate(
                        file.fileno(), file.seek(0, os.SEEK_END), room.f_bavail * room.f_frsize
                    )

    def mend(self) -> None:
        """Makes room."""
        self._ballast.unlink()


class _Shim:
    """shim.c in all processes of a command.

    Args:
        folder: of the compiled library and the file that the processes map.
        inputs: the folder whose files can be made unreadable.
    """

    def __init__(self, folder: Path, inputs: Path) -> None:
        library, self._shared = folder / "faults-shim.so", folder / "faults-shared"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, _SOURCE, "-ldl"], check=True)
        self.write(0, False)
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAULTS_SHARED": str(self._shared),
            "FAULTS_INPUTS": f"{inputs.resolve()}/",
        }

    def write(self, jump_s: int, reads_fail: bool) -> None:
        """Says from now on what the processes have to bear, in place: they have the file mapped."""
        self._shared.touch()
        with self._shared.open("r+b") as file:
            file.write(_SHARED.pack(jump_s, reads_fail, 0))

    def failed(self) -> int:
        """Returns how many reads have failed."""
        return int(_SHARED.unpack(self._shared.read_bytes())[2])


class ReadErrors(_Refused):
    """From now on all reads of the command's inputs fail with EIO."""

    def __init__(self, shim: _Shim) -> None:
        self._shim, self.environ = shim, shim.environ

    def strike(self, command: int, tree: Sequence[int], draw: random.Random) -> None:
        """Makes them fail."""
        self._shim.write(0, True)

    def was_felt(self) -> bool:
        """Returns whether anything was read afterwards."""
        return self._shim.failed() > 0


class ClockJump(Fault):
    """The time of the day goes on an hour or a day earlier or later."""

    goes_on = True

    def __init__(self, shim: _Shim) -> None:
        self._shim, self.environ = shim, shim.environ

    def strike(self, command: int, tree: Sequence[int], draw: random.Random) -> None:
        """Sets the clock."""
        self._shim.write(draw.choice(_JUMPS_S), False)


# The whole tree at once is what a power cut or a container's end does.
_KILLS = {
    "kill the tree": Kill(lambda command, tree, draw: tree),
    "kill the command": Kill(lambda command, tree, draw: [command]),
    "kill one process": Kill(lambda command, tree, draw: [draw.choice(tree or [command])]),
}
KILLS = tuple(_KILLS)
OTHERS = _STOP, _FULL_DISK, _READ_ERRORS, _CLOCK_JUMP = (
    "stop one process",
    "full disk",
    "read errors",
    "clock jump",
)


@contextmanager
def fault_of(kind: str, disk: Path, inputs: Path) -> Iterator[Fault]:
    """Yields a fault to be made while a command writes below `disk`.

    Args:
        kind: of KILLS or OTHERS.
        disk: a folder; for a full disk a small file system lies there meanwhile.
        inputs: what the command reads.

    Raises:
        NotMountableError: no file system may be mounted here.
    """
    if kind == _FULL_DISK:
        with mounted(disk, f"size={_DISK_MIB}m"):
            (disk / "scratch").mkdir()
            yield FullDisk(disk)
    elif kind in (_READ_ERRORS, _CLOCK_JUMP):
        shim = _Shim(disk.parent, inputs)
        yield ReadErrors(shim) if kind == _READ_ERRORS else ClockJump(shim)
    else:
        yield Stop() if kind == _STOP else _KILLS[kind]
