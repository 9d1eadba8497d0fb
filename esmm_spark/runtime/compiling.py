"""Compiled kernels: plain loops over arrays, compiled by numba at their first call and kept on disk."""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event

from esmm_spark.runtime import activity

Function = TypeVar("Function", bound=Callable[..., Any])

_PACKAGE = Path(__file__).resolve().parents[1]


class _Compilation(event.Listener):  # type: ignore[misc]
    """Notes that numba compiles: seconds in which a rank that is watched keeps others waiting."""

    def on_start(self, event: Any) -> None:
        activity.compiling(1)

    def on_end(self, event: Any) -> None:
        activity.compiling(-1)


event.register("numba:compile", _Compilation())


def compiled(function: Function, files: tuple[str, ...], **options: Any) -> Function:
    """Returns `function`, which numba compiles at its first call and keeps on disk for later processes.

    It runs without the GIL and without bounds checks.

    Args:
        function: holds arrays and numbers only.
        files: all files, relative to the package, that the compiled code holds a copy of: numba looks at the
            function's own file only to see whether what it kept is out of date.
        options: more of `numba.njit`.
    """
    # Where a kernel is kept is settled here and now, so numba's setting is put back: it is the whole
    # process's.
    before = numba.config.CACHE_DIR
    folder = cache_folder(files)
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


class KernelSet:
    """Kernels that call each other, made of the same files: if one changes, all are compiled again."""

    def __init__(self, files: tuple[str, ...], **options: Any) -> None:
        """Makes an empty set.

        Args:
            files: as in `compiled`, also those that the kernels import, whatever folder they are in.
            options: of `numba.njit`, of all kernels of the set.
        """
        self._files = files
        self._options = options

    def kernel(self, function: Function) -> Function:
        """Returns `function` compiled. It holds arrays and numbers only, and makes no arrays but views.

        It returns arrays only to a function that is a `kernel`, too: references to arrays are not counted
        (`_nrt=False`). numba would count one to every array of a tuple at every call, which took more than
        half of the time, and longer to compile.
        """
        return compiled(function, self._files, _nrt=False, **self._options)

    def inlined_kernel(self, function: Function) -> Function:
        """Returns a small `kernel` that is compiled into each kernel that calls it."""
        return compiled(function, self._files, _nrt=False, inline="always", **self._options)

    def allocating_kernel(self, function: Function) -> Function:
        """Returns a `kernel` that may make arrays."""
        return compiled(function, self._files, **self._options)


@functools.cache
def cache_folder(files: tuple[str, ...]) -> str | None:
    """Returns a folder for kernels made of `files` as they now are, or None where none can be written.

    Below NUMBA_CACHE_DIR if that is set, else the user's cache: the package may be installed read-only, and a
    kernel's file must be out of others' reach, because numba trusts it.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for name in ("runtime/compiling.py", *files):
        digest.update((_PACKAGE / name).read_bytes())
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
