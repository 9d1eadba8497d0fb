"""Matrix products and a shared counter, to be called by kernels.

numba has matrix products of its own only through scipy, whose OpenBLAS takes a quarter longer than the MKL
that torch's own library holds and gives out. Called from a thread of a parallel region, MKL uses that thread
alone.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@functools.cache
def sgemm_address() -> int | None:
    """Returns where the machine code of BLAS's `sgemm` lies, or None where torch's library gives none out."""
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        found = ctypes.CDLL(str(path)).sgemm_
    except (OSError, AttributeError):
        return None
    return ctypes.cast(found, ctypes.c_void_p).value


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def multiply(
    typing_context: Any,
    address: Any,
    sides: Any,
    shape: Any,
    left: Any,
    left_at: Any,
    right: Any,
    right_at: Any,
    beta: Any,
    out: Any,
    out_at: Any,
) -> Any:
    """Sets out = left x right + beta * out, [M, N], for matrices that lie row by row in flat arrays.

    Args:
        typing_context: numba's own, which no caller passes.
        address: of `sgemm_address`.
        sides: a constant, whether left and right are to be transposed first: `NN`, `NT`, `TN` or `TT`.
        shape: (M, N, the K that is summed over).
        left: float32, contiguous, with a matrix [M, K], or [K, M] to be transposed.
        left_at: where in it the matrix begins.
        right: as `left`, [K, N], or [N, K] to be transposed.
        right_at: where in it the matrix begins.
        beta: 0 or 1.
        out: as `left`, [M, N].
        out_at: where in it the matrix begins.
    """
    arguments = (address, sides, shape, left, left_at, right, right_at, beta, out, out_at)
    left_side, right_side = sides.literal_value

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args

        def stored(value: Any) -> Any:
            place = cgutils.alloca_once(builder, value.type)
            builder.store(value, place)
            return place

        def matrix(index: int) -> Any:
            data = context.make_array(kinds[index])(context, builder, values[index]).data
            return builder.gep(data, [context.cast(builder, values[index + 1], kinds[index + 1], types.intp)])

        m, n, k = (
            stored(context.cast(builder, size, kind, types.int32))
            for size, kind in zip(cgutils.unpack_tuple(builder, values[2]), kinds[2], strict=True)
        )
        # From a column to the next; BLAS takes no 0 for it, even where there is no column.
        across = [
            stored(builder.select(builder.icmp_signed(">", size, size.type(1)), size, size.type(1)))
            for size in map(builder.load, (n, k, m))
        ]
        n_across, k_across, m_across = across
        # BLAS takes matrices to lie column by column: it is given out^T = right^T x left^T.
        passed = [
            stored(ir.Constant(ir.IntType(8), ord(right_side))),
            stored(ir.Constant(ir.IntType(8), ord(left_side))),
            *(n, m, k),
            stored(ir.Constant(ir.FloatType(), 1.0)),
            *(matrix(5), n_across if right_side == "N" else k_across),
            *(matrix(3), k_across if left_side == "N" else m_across),
            stored(context.cast(builder, values[7], kinds[7], types.float32)),
            *(matrix(8), n_across),
        ]
        function_type = ir.FunctionType(ir.VoidType(), [value.type for value in passed])
        builder.call(builder.inttoptr(values[0], function_type.as_pointer()), passed)
        return context.get_dummy_value()

    return types.void(types.intp, *arguments[1:]), generate


@intrinsic  # type: ignore[untyped-decorator]
def take(typing_context: Any, counter: Any) -> Any:
    """`take(counter)` returns counter[0], int64, and adds 1 to it: no two threads get the same number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), generate
