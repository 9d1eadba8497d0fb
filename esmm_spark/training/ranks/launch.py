"""What started this process, as which rank, and which rank reports an error; without torch or Horovod."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import psutil

from esmm_spark.contracts.errors import ConfigError, RankFailedError, UserError
from esmm_spark.contracts.train_config import Backend
from esmm_spark.runtime.run_notes import this_run

# Within this time a rank that failed on its own has told why. horovodrun kills 5 s after it asked to end.
_SECONDS_FOR_OTHERS = 2.0
# Within this time a message has reached horovodrun, and the other ranks.
_SECONDS_TO_PASS_ON = 0.5
# A run's record is given up on after this time: the storage that it goes to may be what ended the job.
_SECONDS_TO_RECORD = 2.0
# Within this time horovodrun has ended all ranks after the one that told why.
_SECONDS_TO_BE_ENDED = 10.0


# What starts processes: name, variable with the rank, those with the number of processes.
_LAUNCHERS: dict[Backend, tuple[str, str, tuple[str, ...]]] = {
    "horovod": ("horovodrun", "HOROVOD_RANK", ("HOROVOD_SIZE",)),
    "torch": ("torchrun", "RANK", ("WORLD_SIZE",)),
}
_FOREIGN_LAUNCHERS = (
    ("mpirun", "OMPI_COMM_WORLD_RANK", ("OMPI_COMM_WORLD_SIZE",)),
    ("mpirun", "PMI_RANK", ("PMI_SIZE",)),
    ("mpirun", "MV2_COMM_WORLD_RANK", ("MV2_COMM_WORLD_SIZE",)),
    ("jsrun", "JSM_NAMESPACE_RANK", ("JSM_NAMESPACE_SIZE",)),
)
# A batch script has SLURM_NTASKS, too, but it is one process: only in a step does srun start so many.
_SRUN = ("srun", "SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"))


def launched_rank() -> int:
    """Returns this process's rank as its launcher set it, whichever it was; 0 without one."""
    if "HOROVOD_RANK" in os.environ:
        return _number("HOROVOD_RANK")
    launcher = _launcher()
    return _number(launcher[1]) if launcher else 0


def is_launched(backend: Backend) -> bool:
    """Returns whether this process is a rank that the backend's own launcher started."""
    return "HOROVOD_RANK" in os.environ if backend == "horovod" else _number("WORLD_SIZE") > 1


def refuse_foreign_launcher(backend: Backend) -> None:
    """Raises ConfigError where something else than the backend's launcher started several processes.

    Each of them would train a model of its own, all into one folder.
    """
    _, _, (own,) = _LAUNCHERS[backend]
    foreign = None if own in os.environ else _launcher()
    if foreign:
        launcher, _, variable = foreign
        size = _number(variable)
        other = next((name for name, (command, *_) in _LAUNCHERS.items() if command == launcher), None)
        command = {
            "horovod": f"horovodrun -np {size} python esmm_spark/train.py --config ...",
            "torch": f"torchrun --standalone --nproc-per-node {size} esmm_spark/train.py --config ...",
        }[backend]
        raise ConfigError(
            f"{launcher} started {size} processes ({variable} = {size}), of which train.backend = {backend} "
            f"knows nothing: each would train for itself; start `{command}` once instead, or, "
            + (f"set train.backend={other}, or, " if other else "")
            + f"if this is one process, unset {variable}"
        )


def require_host_address(backend: Backend) -> None:
    """Raises ConfigError where a rank runs on a host whose name has no address: Gloo would crash."""
    if not is_launched(backend):
        return
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        raise ConfigError(
            f"this host's name, {name}, has no address ({error.strerror}), which Gloo asks for: write "
            f"`127.0.1.1 {name}` to /etc/hosts, or, where ranks run on several hosts, its address among them"
        ) from error


def host_name() -> str:
    """Returns this host as horovodrun calls it, else its own name."""
    return os.environ.get("HOROVOD_HOSTNAME") or socket.gethostname()


def own_address() -> str:
    """Returns this host's address on the network that the ranks' Gloo uses."""
    interface = os.environ.get("HOROVOD_GLOO_IFACE") or os.environ.get("GLOO_SOCKET_IFNAME", "")
    for address in psutil.net_if_addrs().get(interface.split(",")[0], []):
        if address.family == socket.AF_INET:
            return str(address.address)
    return socket.gethostbyname(host_name())


def _launcher() -> tuple[str, str, str] | None:
    """Returns its name and the variables with rank and size; None if it started one process or is none."""
    launchers = (
        *_LAUNCHERS.values(),
        *_FOREIGN_LAUNCHERS,
        *((_SRUN,) if "SLURM_STEP_ID" in os.environ else ()),
    )
    for launcher, rank, sizes in launchers:
        size = next((name for name in sizes if name in os.environ), "")
        if _number(size) > 1:
            return launcher, rank, size
    return None


def _number(variable: str) -> int:
    """Returns an environment variable's whole number, 0 where there is none."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 0


class FailedElsewhereError(RankFailedError):
    """Another rank failed and reports why: this one ends without a message."""


@contextmanager
def first_rank_speaks() -> Iterator[None]:
    """Lets only the first rank report a mistake that every rank finds, such as an unknown config key.

    The others wait: horovodrun ends them once the first one has failed. If it does not, the mistake is one of
    this rank's host alone, and it is told after all.
    """
    try:
        yield
    except UserError:
        if launched_rank() > 0:
            time.sleep(_SECONDS_TO_BE_ENDED)
        raise


def end_now(message: str | None) -> NoReturn:
    """Ends this process from whatever thread, with a message if it is the one to report."""
    if message is not None:
        # Not print: the main thread may hold its lock.
        os.write(2, f"error: {message}\n".encode())
        time.sleep(_SECONDS_TO_PASS_ON)
    this_run().ended_within(
        _SECONDS_TO_RECORD, RankFailedError.exit_code, message or "another rank failed, and tells why"
    )
    os._exit(RankFailedError.exit_code)


def end_after_failure_elsewhere(error: RankFailedError) -> NoReturn:
    """Ends this process because another rank failed: after that one had time to tell why.

    Ranks 0 and 1, one of which lives on in most cases, tell what is known here; more would only repeat it.
    The SIGTERM with which horovodrun ends the others is not let through until then. Where another rank tells
    why, it is to end first, so that horovodrun reports its exit code.
    """
    if isinstance(error, FailedElsewhereError):
        time.sleep(_SECONDS_TO_BE_ENDED)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(_SECONDS_FOR_OTHERS)
        if launched_rank() <= 1:
            print(f"error: {error}", file=sys.stderr, flush=True)
    this_run().ended_within(_SECONDS_TO_RECORD, error.exit_code, error)
    sys.stdout.flush()
    # The library's own clean-up at the end of a process may wait for ever for the rank that is gone.
    os._exit(error.exit_code)
