"""What all compiled kernels of the model share: compilation, array types, threads, an atomic counter."""

from typing import Any

import numba
import numpy.typing as npt
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from esmm_spark.runtime.compiling import Function, KernelSet, compiled

# The files that kernels are made of, `compiling.compiled`'s `files`.
MODEL_KERNEL_FILES = (
    "runtime/hash_kernels.py",
    "runtime/prefetching.py",
    "model/fused/activation_kernels.py",
    "model/fused/blas.py",
    "model/embedding/distinct_kernels.py",
    "model/kernels/compilation.py",
    "model/grouped/epilogue_kernels.py",
    "model/fused/layer_kernels.py",
    "model/fused/layout.py",
    "model/objectives/pointwise_kernels.py",
    "model/objectives/spec.py",
    "model/objectives/term_kernels.py",
    "model/fused/product_kernels.py",
    "model/embedding/optimizer_kernels.py",
    "model/embedding/row_kernels.py",
    "model/embedding/row_optimizer.py",
    "model/fused/projection_kernels.py",
    "model/fused/step_arrays.py",
    "model/embedding/step_kernels.py",
    "model/fused/tower_kernels.py",
    "runtime/splitmix.py",
)

# Products may be contracted with sums: one rounding instead of two.
_CONTRACT = {"contract"}
_KERNELS = KernelSet(MODEL_KERNEL_FILES, fastmath=_CONTRACT)
kernel = _KERNELS.kernel
inlined_kernel = _KERNELS.inlined_kernel


def parallel_kernel(function: Function) -> Function:
    """Returns `function` compiled; its `prange` loops run over the threads of `num_threads`.

    No sum is reordered: the same input gives the same output.

    It must not itself assign to an array that is an element of a tuple: numba's dead code elimination for
    parallel functions doesn't know that the caller sees it, and removes the assignment. A `kernel` may.
    """
    return compiled(function, MODEL_KERNEL_FILES, parallel=True, fastmath=_CONTRACT)


def num_threads() -> int:
    """Returns how many threads a kernel is to use, torch's number, and lets numba use no more than that."""
    wanted = torch.get_num_threads()
    threads = min(wanted, int(numba.config.NUMBA_NUM_THREADS))
    numba.set_num_threads(threads)
    if torch.get_num_threads() != wanted:
        # numba's first call starts its threads and sets OpenMP's number, which is torch's, too.
        torch.set_num_threads(wanted)
    return threads


def arrays_of(*tensors: Tensor) -> tuple[npt.NDArray[Any], ...]:
    """Returns CPU tensors as arrays over the same memory, or over a copy where they are not contiguous."""
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


@intrinsic  # type: ignore[untyped-decorator]
def fetch_and_add(typing_context: Any, counter: Any) -> Any:
    """`fetch_and_add(counter)` returns counter[0], int64, and adds 1 to it, atomically."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), generate
