"""How the kernels over raw bytes are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Returns `function`, which numba compiles at its first call and keeps on disk for later processes.

    It must hold arrays and numbers only. It runs without the GIL, and without bounds checks.
    """
    return cast(
        Function, numba.njit(function, cache=True, nogil=True, boundscheck=False, error_model="numpy")
    )
