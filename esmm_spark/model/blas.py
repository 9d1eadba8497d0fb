"""Matrix products and a shared counter, to be called by kernels.

numba has matrix products of its own only through scipy, whose OpenBLAS takes a quarter longer than the MKL
that torch's own library holds and gives out. Called from a thread of a parallel region, MKL uses that thread
alone. In bfloat16 MKL has nothing to gain, but what torch calls brgemm (oneDNN's) has: twice the rate of
float32 on a CPU with instructions for it.
"""

import ctypes
import functools
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# brgemm(M, N, K, lda, ldb, ldc, whether to add, A, B, C, whether B's rows are paired), and what gives back
# what a thread held for it: brgemm_release(the same).
_BRGEMM = "_ZN2at6native7cpublas6brgemmEllllllbPKN3c108BFloat16ES5_Pfb"
_BRGEMM_RELEASE = "_ZN2at6native7cpublas14brgemm_releaseEb"


class Addresses(NamedTuple):
    """Where the machine code of products lies, to be given to kernels.

    Attributes:
        sgemm: for `multiply`.
        brgemm: for `multiply_halves`; 0 in float32.
        release: for `release`; 0 in float32.
    """

    sgemm: int
    brgemm: int
    release: int


def product_addresses(in_halves: bool) -> Addresses | None:
    """Returns where products are, or None where torch's library gives none out.

    Args:
        in_halves: whether some are to be made in bfloat16: None where the CPU, or what oneDNN may use of it,
            has no instructions for it. It would throw what no kernel catches.
    """
    if not in_halves:
        sgemm = _address("sgemm_")
        return None if sgemm is None else Addresses(sgemm, 0, 0)
    if not (torch.backends.mkldnn.enabled and _has_halves()):
        return None
    found = [_address(name) for name in ("sgemm_", _BRGEMM, _BRGEMM_RELEASE)]
    addresses = [address for address in found if address is not None]
    return Addresses(*addresses) if len(addresses) == len(found) else None


@functools.cache
def _has_halves() -> bool:
    """Returns whether oneDNN multiplies in bfloat16 by instructions of the CPU; a variable may forbid it."""
    limits = [os.environ.get(f"{name}_MAX_CPU_ISA", "DEFAULT") for name in ("ONEDNN", "DNNL")]
    return bool(
        all(limit.upper() in ("DEFAULT", "ALL") for limit in limits)
        and torch.cpu.get_capabilities().get("avx512_bf16")
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


@functools.cache
def _address(name: str) -> int | None:
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        found = ctypes.CDLL(str(path))[name]
    except (OSError, AttributeError):
        return None
    return ctypes.cast(found, ctypes.c_void_p).value


# C's bool, which is passed as a byte of 0 or 1.
_FLAG = ir.IntType(1)


def _called(context: Any, builder: Any, address: Any, passed: list[Any]) -> Any:
    """Calls the machine code at an address, which returns nothing."""
    function_type = ir.FunctionType(ir.VoidType(), [value.type for value in passed])
    flags = {place: ("zeroext",) for place, value in enumerate(passed) if value.type == _FLAG}
    builder.call(builder.inttoptr(address, function_type.as_pointer()), passed, arg_attrs=flags)
    return context.get_dummy_value()


def _matrix(context: Any, builder: Any, signature: Any, values: Any, index: int) -> Any:
    """Returns where the matrix in an intrinsic's array `index` lies; the next argument is its place there."""
    data = context.make_array(signature.args[index])(context, builder, values[index]).data
    place = context.cast(builder, values[index + 1], signature.args[index + 1], types.intp)
    return builder.gep(data, [place])


def _sizes(context: Any, builder: Any, signature: Any, values: Any, index: int, kind: Any) -> list[Any]:
    """Returns the numbers of an intrinsic's tuple `index` as `kind`."""
    numbers = zip(cgutils.unpack_tuple(builder, values[index]), signature.args[index], strict=True)
    return [context.cast(builder, number, own_kind, kind) for number, own_kind in numbers]


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
        address: of `Addresses.sgemm`.
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
        def stored(value: Any) -> Any:
            place = cgutils.alloca_once(builder, value.type)
            builder.store(value, place)
            return place

        m, n, k = map(stored, _sizes(context, builder, signature, values, 2, types.int32))
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
            *(_matrix(context, builder, signature, values, 5), n_across if right_side == "N" else k_across),
            *(_matrix(context, builder, signature, values, 3), k_across if left_side == "N" else m_across),
            stored(context.cast(builder, values[7], signature.args[7], types.float32)),
            *(_matrix(context, builder, signature, values, 8), n_across),
        ]
        return _called(context, builder, values[0], passed)

    return types.void(types.intp, *arguments[1:]), generate


@intrinsic  # type: ignore[untyped-decorator]
def multiply_halves(
    typing_context: Any,
    address: Any,
    shape: Any,
    left: Any,
    left_at: Any,
    right: Any,
    right_at: Any,
    adds: Any,
    out: Any,
    out_at: Any,
) -> Any:
    """Sets out = left x right, [M, N], or adds it to out.

    Args:
        typing_context: numba's own, which no caller passes.
        address: of `Addresses.brgemm`.
        shape: (M, N, the even K that is summed over).
        left: the bits of bfloat16, uint16, contiguous, with a matrix [M, K].
        left_at: where in it the matrix begins.
        right: as `left`, with a matrix [K, N] whose rows are paired: [K / 2, N, 2].
        right_at: where in it the matrix begins.
        adds: whether to add.
        out: float32, contiguous, with a matrix [M, N].
        out_at: where in it the matrix begins.
    """
    arguments = (address, shape, left, left_at, right, right_at, adds, out, out_at)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        m, n, k = _sizes(context, builder, signature, values, 1, types.int64)
        left_matrix, right_matrix, out_matrix = (
            _matrix(context, builder, signature, values, index) for index in (2, 4, 7)
        )
        added = builder.trunc(context.cast(builder, values[6], signature.args[6], types.int8), _FLAG)
        passed = [m, n, k, k, n, n, added, left_matrix, right_matrix, out_matrix, _FLAG(1)]
        return _called(context, builder, values[0], passed)

    return types.void(types.intp, *arguments[1:]), generate


@intrinsic  # type: ignore[untyped-decorator]
def release(typing_context: Any, address: Any) -> Any:
    """`release(address)` gives back what this thread held for `multiply_halves`: the CPU's tiles, if any."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _called(context, builder, arguments[0], [_FLAG(1)])

    return types.void(types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def take(typing_context: Any, counter: Any) -> Any:
    """`take(counter)` returns counter[0], int64, and adds 1 to it: no two threads get the same number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), generate
