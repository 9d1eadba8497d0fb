"""glibc's malloc settings for training and scoring, and the memory of processes: allowed, and taken."""

import ctypes
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from esmm_spark.runtime.run_notes import this_run

_SECONDS_BETWEEN_SAMPLES = 1.0

# glibc's names and numbers, malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """Sets glibc's malloc to keep freed memory, up to 1 GiB, instead of returning it to the system.

    Each batch needs the same few dozen megabytes. To have the system hand them out, zeroed and page by page,
    took a tenth of a step's time with two ranks on a host, and half of the towers' in scoring. Does nothing
    where the C library isn't glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_TRIM_THRESHOLD, 1 << 30)
    mallopt(_TOP_PAD, 64 << 20)
    mallopt(_MMAP_THRESHOLD, 32 << 20)


def memory_limit_bytes() -> int:
    """Returns the host's memory, or the least that a control group of this process (a container) allows."""
    limits = [int(psutil.virtual_memory().total)]
    for file in _limit_files():
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        limits += [int(text)] if text.isdecimal() else []
    return min(limits)


def _limit_files() -> list[Path]:
    """Returns the files of memory limits: version 1's one, version 2's of this cgroup and those above."""
    root = Path("/sys/fs/cgroup")
    files = [root / "memory" / "memory.limit_in_bytes"]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return files
    for line in lines:
        if line.startswith("0::"):
            group = root / line.removeprefix("0::").lstrip("/")
            above = [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
            files += [folder / "memory.max" for folder in above]
    return files


@contextmanager
def sampled_memory(root: int) -> Iterator[None]:
    """Notes for the run's record the most memory that a tree of processes takes meanwhile.

    It is sampled each second, which takes about a millisecond per GB.

    Args:
        root: the id of the process at its top, which counts, too.
    """
    ended, notes = threading.Event(), this_run()

    def sample() -> None:
        while True:
            total = sum(memory_of(pid).proportional for pid in (root, *descendants(root)))
            notes.peak_memory_bytes = max(notes.peak_memory_bytes, total)
            if ended.wait(_SECONDS_BETWEEN_SAMPLES):
                return

    thread = threading.Thread(target=sample, name="memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class ProcessMemory(NamedTuple):
    """The memory of a process, in bytes.

    Attributes:
        proportional: its share, which counts a page that n processes share as an nth (PSS).
        private: pages that it alone has and has written to.
    """

    proportional: int
    private: int


def memory_of(pid: int) -> ProcessMemory:
    """Returns the memory of a process, zeros if it is gone or another user's."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return ProcessMemory(0, 0)
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    # Clean private pages are a mapped file's, which the page cache holds anyway, such as the embedding's.
    return ProcessMemory(kib.get("Pss", 0) * 1024, kib.get("Private_Dirty", 0) * 1024)


def descendants(root: int) -> list[int]:
    """Returns the ids of the processes below `root`, without it."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            children[int(stat.rpartition(")")[2].split()[1])].append(int(entry))
    found, queue = [], [root]
    while queue:
        queue.extend(children[queue[0]])
        found.extend(children[queue.pop(0)])
    return found
