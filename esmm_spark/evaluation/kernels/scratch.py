"""Scratch arrays of a task: memory-mapped temporary files where they are large."""

import os
import tempfile
from typing import Any

import numpy as np

# What a task holds in memory of one part, and of any array made of it; beyond that it lies in files.
MEMORY_BYTES = 384 << 20


def empty(length: int, kind: Any, memory_bytes: int | None = None) -> Any:
    """Returns an array of one dimension, its content anything: in a file where it is large.

    Raises:
        OSError: the disk has no room for it.
    """
    size = length * np.dtype(kind).itemsize
    if size <= (MEMORY_BYTES if memory_bytes is None else memory_bytes):
        return np.empty(length, kind)
    with open_file() as file:
        # In a file with holes a disk that fills up ends the process: a write to memory can't fail otherwise.
        os.posix_fallocate(file.fileno(), 0, size)
        return mapped(file, kind, length)


def mapped(file: Any, kind: Any, length: int) -> Any:
    """Returns the content of an open file as an array, which keeps it though the file is closed."""
    return np.memmap(file, kind, "r+", shape=(length,)).view(np.ndarray)


def open_file() -> Any:
    """Opens a temporary file without a name, in Spark's local directory where that is known."""
    folders = os.environ.get("SPARK_LOCAL_DIRS") or os.environ.get("LOCAL_DIRS")
    return tempfile.TemporaryFile(dir=folders.split(",")[0] if folders else None)
