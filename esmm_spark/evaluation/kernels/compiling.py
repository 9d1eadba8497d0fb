"""The kernels over scores: what they are made of and how they are compiled."""

from esmm_spark.runtime.compiling import KernelSet

# A kernel holds a copy of every function and constant that it uses, from whatever file, but numba looks at
# its own file only to see whether what it kept is out of date.
SCORE_KERNEL_FILES = (
    "runtime/hash_kernels.py",
    "runtime/prefetching.py",
    "runtime/splitmix.py",
    "runtime/xxh64.py",
    "evaluation/kernels/compiling.py",
    "evaluation/kernels/gathering.py",
    "evaluation/kernels/group_aucs.py",
    "evaluation/kernels/id_hashes.py",
    "evaluation/kernels/matching.py",
    "evaluation/kernels/ordering.py",
    "evaluation/kernels/sweep.py",
    "evaluation/kernels/weights.py",
)

_KERNELS = KernelSet(SCORE_KERNEL_FILES)
kernel = _KERNELS.kernel
inlined_kernel = _KERNELS.inlined_kernel
