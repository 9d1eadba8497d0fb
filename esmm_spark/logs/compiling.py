"""The kernels over raw bytes: what they are made of and how they are compiled."""

from esmm_spark.runtime.compiling import Function, compiled

# The files that kernels are made of. A kernel holds a copy of every function and constant that it uses, from
# whatever file, but numba looks at its own file only to see whether what it kept is out of date.
KERNEL_FILES = (
    "contracts/features.py",
    "contracts/tasks.py",
    "contracts/impressions.py",
    "runtime/hash_kernels.py",
    "logs/aliccp.py",
    "logs/arrays.py",
    "logs/compiling.py",
    "logs/decimals.py",
    "logs/lines.py",
    "logs/reasons.py",
    "logs/tokens.py",
    "samples/grouping/buffers.py",
    "samples/grouping/kernel.py",
    "samples/hashing/values.py",
    "samples/lines/ids.py",
    "samples/hashing/keys.py",
    "samples/lines/keys.py",
    "samples/lines/order.py",
    "samples/lines/merging.py",
    "samples/lines/packing.py",
    "samples/grouping/placing.py",
    "samples/value_counts.py",
    "runtime/splitmix.py",
    "runtime/xxh64.py",
)


def kernel(function: Function) -> Function:
    """Returns `function`, which numba compiles at its first call and keeps on disk for later processes.

    It must hold arrays and numbers only, and make no arrays. It runs without the GIL, and without bounds
    checks.
    """
    # _nrt=False: nothing is allocated, so references needn't be counted. numba would count one to every array
    # of a tuple at every call, which took more than half of the time.
    return compiled(function, KERNEL_FILES, _nrt=False)


def inlined_kernel(function: Function) -> Function:
    """Returns a small `kernel` that is compiled into each kernel that calls it."""
    return compiled(function, KERNEL_FILES, _nrt=False, inline="always")


def allocating_kernel(function: Function) -> Function:
    """Returns a `kernel` that may make arrays."""
    return compiled(function, KERNEL_FILES)
