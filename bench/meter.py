"""Runs a command and writes what its whole process tree cost.

    python -m bench.meter RESULT.json [--interval-s 0.25] -- command ...

Becomes the reaper of every process that the command leaves behind (Spark's Python daemon outlives the JVM
that started it), so that the kernel's own sums hold their CPU seconds. Those of each process are sampled,
too, and the larger sum counts. Memory is sampled: per process its proportional share (PSS), which counts a
shared page once over the tree.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

from esmm_spark.runtime.memory import descendants, memory_of

# The name of forked processes among `peak_private_mib`.
WORKER = "worker"

_PR_SET_CHILD_SUBREAPER = 36


class MemorySampler(threading.Thread):
    """Samples the memory of a process tree until it is stopped.

    Args:
        root: the pid whose descendants are watched.
        interval_s: seconds between samples; a sample takes about a millisecond per GB.

    Attributes:
        peak_mib: the largest PSS of the tree, in MiB.
        peak_private_mib: per process name, the largest private memory of one process, in MiB.
    """

    def __init__(self, root: int, interval_s: float) -> None:
        super().__init__(daemon=True)
        self._root, self._interval_s = root, interval_s
        self._done = threading.Event()
        self.peak_mib = 0.0
        self._cpu_s: dict[tuple[int, str], float] = {}
        self.peak_private_mib: dict[str, float] = defaultdict(float)

    def run(self) -> None:
        """Samples."""
        while not self._done.wait(self._interval_s):
            total = 0.0
            for pid in descendants(self._root):
                self._sample_cpu(pid)
                memory, name = memory_of(pid), _name_of(pid)
                total += memory.proportional / 2**20
                self.peak_private_mib[name] = max(self.peak_private_mib[name], memory.private / 2**20)
            self.peak_mib = max(self.peak_mib, total)

    @property
    def cpu_s(self) -> float:
        """The CPU seconds of all processes seen, each as of the last sample that it was in."""
        return sum(self._cpu_s.values())

    def _sample_cpu(self, pid: int) -> None:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return
        ticks, started = int(fields[11]) + int(fields[12]), fields[19]
        self._cpu_s[pid, started] = ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ends the sampling."""
        self._done.set()
        self.join()


def _name_of(pid: int) -> str:
    """Returns the program's name; WORKER for one that a Spark daemon forked off itself."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        parent_words = Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return "gone"
    if words and words == parent_words and b"daemon" in words:
        return WORKER
    return os.path.basename(words.split(b"\0")[0].decode(errors="replace")) or "gone"


def main() -> None:
    """Runs the command of the command line and ends with its exit code."""
    separator = sys.argv.index("--")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result")
    parser.add_argument("--interval-s", type=float, default=0.25)
    arguments = parser.parse_args(sys.argv[1:separator])
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started_s = time.monotonic()
    child = subprocess.Popen(sys.argv[separator + 1 :])
    sampler = MemorySampler(os.getpid(), arguments.interval_s)
    sampler.start()
    exit_code, wall_s = 1, 0.0
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        if pid == child.pid:
            exit_code, wall_s = os.waitstatus_to_exitcode(status), time.monotonic() - started_s
    sampler.stop()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "exit_code": exit_code,
        "wall_s": wall_s,
        # pyspark's daemon lets the kernel forget its workers, whose time is then in no sum; samples miss what
        # a process did after its last one.
        "cpu_s": max(usage.ru_utime + usage.ru_stime, sampler.cpu_s),
        "peak_mib": sampler.peak_mib,
        "largest_process_mib": usage.ru_maxrss / 1024,
        "peak_private_mib": dict(sampler.peak_private_mib),
    }
    Path(arguments.result).write_text(json.dumps(result))
    sys.exit(exit_code if exit_code >= 0 else 128 - exit_code)


if __name__ == "__main__":
    main()
