"""The kernels over raw bytes: what they are made of and how they are compiled."""

from esmm_spark.runtime.compiling import KernelSet

# The files that kernels are made of. A kernel holds a copy of every function and constant that it uses, from
# whatever file, but numba looks at its own file only to see whether what it kept is out of date.
LINE_KERNEL_FILES = (
    "contracts/features.py",
    "contracts/fields/field_spec.py",
    "contracts/tasks.py",
    "contracts/impressions.py",
    "contracts/schemas/line_format.py",
    "runtime/byte_kernels.py",
    "runtime/hash_kernels.py",
    "logs/aliccp.py",
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
    "runtime/texts.py",
    "runtime/xxh64.py",
)

_KERNELS = KernelSet(LINE_KERNEL_FILES)
kernel = _KERNELS.kernel
inlined_kernel = _KERNELS.inlined_kernel
allocating_kernel = _KERNELS.allocating_kernel
