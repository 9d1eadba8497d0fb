"""The kernels over scores: what they are made of and how they are compiled."""

from esmm_spark.runtime.compiling import Function, compiled

# A kernel holds a copy of every function and constant that it uses, from whatever file, but numba looks at
# its own file only to see whether what it kept is out of date.
KERNEL_FILES = (
    "runtime/hash_kernels.py",
    "runtime/splitmix.py",
    "runtime/xxh64.py",
    "evaluation/kernels/compiling.py",
    "evaluation/kernels/group_aucs.py",
    "evaluation/kernels/id_hashes.py",
    "evaluation/kernels/matching.py",
    "evaluation/kernels/ordering.py",
    "evaluation/kernels/sweep.py",
    "evaluation/kernels/weights.py",
)


def kernel(function: Function) -> Function:
    """Returns `function`, which numba compiles at its first call and keeps on disk for later processes.

    It must hold arrays and numbers only, and make no arrays.
    """
    # _nrt=False: nothing is allocated, so references needn't be counted, as in logs/compiling.py.
    return compiled(function, KERNEL_FILES, _nrt=False)


def inlined_kernel(function: Function) -> Function:
    """Returns a small `kernel` that is compiled into each kernel that calls it."""
    return compiled(function, KERNEL_FILES, _nrt=False, inline="always")


def allocating_kernel(function: Function) -> Function:
    """Returns a `kernel` that may make arrays."""
    return compiled(function, KERNEL_FILES)
