"""How the kernels over raw bytes are compiled, and where they are kept."""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

# The files that kernels are made of. A kernel holds a copy of every function and constant that it uses, from
# whatever file, but numba looks at its own file only to see whether what it kept is out of date.
KERNEL_FILES = (
    "features.py",
    "logs/aliccp.py",
    "logs/arrays.py",
    "logs/compiling.py",
    "logs/decimals.py",
    "logs/lines.py",
    "logs/reasons.py",
    "logs/tokens.py",
    "samples/group_buffers.py",
    "samples/grouping.py",
    "samples/hashing.py",
    "samples/id_table.py",
    "samples/key_hashes.py",
    "samples/line_keys.py",
    "samples/line_order.py",
    "samples/merging.py",
    "samples/packing.py",
    "samples/placing.py",
    "samples/value_counts.py",
)


def kernel(function: Function) -> Function:
    """Returns `function`, which numba compiles at its first call and keeps on disk for later processes.

    It must hold arrays and numbers only, and make no arrays. It runs without the GIL, and without bounds
    checks.
    """
    # _nrt=False: nothing is allocated, so references needn't be counted. numba would count one to every array
    # of a tuple at every call, which took more than half of the time.
    return _compiled(function, _nrt=False)


def inlined_kernel(function: Function) -> Function:
    """Returns a small `kernel` that is compiled into each kernel that calls it."""
    return _compiled(function, _nrt=False, inline="always")


def allocating_kernel(function: Function) -> Function:
    """Returns a `kernel` that may make arrays."""
    return _compiled(function)


def _compiled(function: Function, **options: Any) -> Function:
    # Where a kernel is kept is settled here and now, so numba's setting is put back: it is the whole
    # process's.
    before = numba.config.CACHE_DIR
    folder = _cache_folder()
    try:
        numba.config.CACHE_DIR = folder or before
        dispatcher = numba.njit(
            function,
            cache=folder is not None,
            nogil=True,
            boundscheck=False,
            error_model="numpy",
            **options,
        )
    finally:
        numba.config.CACHE_DIR = before
    return cast(Function, dispatcher)


@functools.cache
def _cache_folder() -> str | None:
    """Returns a folder for the kernels as they now are, or None where none can be written.

    Below NUMBA_CACHE_DIR if that is set, else the user's cache: the package may be installed read-only, and a
    kernel's file must be out of others' reach, because numba trusts it.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    package = Path(__file__).resolve().parent.parent
    for name in KERNEL_FILES:
        digest.update((package / name).read_bytes())
    root = (
        Path(numba.config.CACHE_DIR) if numba.config.CACHE_DIR else _user_cache() / "esmm_spark" / "kernels"
    )
    folder = root / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return str(folder) if os.access(folder, os.W_OK) else None


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
