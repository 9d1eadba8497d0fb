"""Matrix products that kernels call: sgemm of MKL, and brgemm of oneDNN in bfloat16.

numba has matrix products of its own only through scipy, whose OpenBLAS takes a quarter longer than the MKL
that torch's own library holds and exports. Called from a thread of a parallel region, MKL uses that thread
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

# brgemm(M, N, K, lda, ldb, ldc, whether to accumulate, A, B, C, whether B is in VNNI layout), and what frees
# the resources that a thread held for it: brgemm_release(the same).
_BRGEMM = "_ZN2at6native7cpublas6brgemmEllllllbPKN3c108BFloat16ES5_Pfb"
_BRGEMM_RELEASE = "_ZN2at6native7cpublas14brgemm_releaseEb"


class GemmAddresses(NamedTuple):
    """Addresses of the machine code of matrix products, which kernels are given.

    Attributes:
        sgemm: for `gemm`.
        brgemm: for `brgemm`; 0 where products are in float32.
        brgemm_release: for `release_brgemm`; 0 where products are in float32.
    """

    sgemm: int
    brgemm: int
    brgemm_release: int


def gemm_addresses(bfloat16: bool) -> GemmAddresses | None:
    """Returns the addresses of matrix products, or None where torch's library exports none.

    Args:
        bfloat16: whether products in bfloat16 are needed, too: None where the CPU, or what oneDNN may use of
            it, has no instructions for them. It would throw what no kernel catches.
    """
    if not bfloat16:
        sgemm = _address("sgemm_")
        return None if sgemm is None else GemmAddresses(sgemm, 0, 0)
    if not (torch.backends.mkldnn.enabled and _has_bfloat16()):
        return None
    found = [_address(name) for name in ("sgemm_", _BRGEMM, _BRGEMM_RELEASE)]
    addresses = [address for address in found if address is not None]
    return GemmAddresses(*addresses) if len(addresses) == len(found) else None


@functools.cache
def _has_bfloat16() -> bool:
    """Returns whether oneDNN has bfloat16 instructions to use; an environment variable may forbid them."""
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


def _call(context: Any, builder: Any, address: Any, passed: list[Any]) -> Any:
    """Emits a call of the void function at an address."""
    function_type = ir.FunctionType(ir.VoidType(), [value.type for value in passed])
    flags = {place: ("zeroext",) for place, value in enumerate(passed) if value.type == _FLAG}
    builder.call(builder.inttoptr(address, function_type.as_pointer()), passed, arg_attrs=flags)
    return context.get_dummy_value()


def _data(context: Any, builder: Any, signature: Any, values: Any, index: int) -> Any:
    """Returns the pointer to the data of an intrinsic's argument `index`, an array."""
    return context.make_array(signature.args[index])(context, builder, values[index]).data


def _sizes(context: Any, builder: Any, signature: Any, values: Any, index: int, kind: Any) -> list[Any]:
    """Returns the numbers of an intrinsic's argument `index`, a tuple, as `kind`."""
    numbers = zip(cgutils.unpack_tuple(builder, values[index]), signature.args[index], strict=True)
    return [context.cast(builder, number, own_kind, kind) for number, own_kind in numbers]


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def gemm(
    typing_context: Any,
    address: Any,
    transposes: Any,
    shape: Any,
    left: Any,
    right: Any,
    beta: Any,
    out: Any,
) -> Any:
    """Sets out = left x right + beta * out, [M, N], by sgemm.

    Args:
        typing_context: numba's own, which no caller passes.
        address: of `GemmAddresses.sgemm`.
        transposes: a constant, whether left and right are transposed first: `NN`, `NT`, `TN` or `TT`.
        shape: (M, N, the K that is summed over).
        left: float32, flat, contiguous, begins with a matrix in row-major order: [M, K], or [K, M] to be
            transposed.
        right: as `left`, [K, N], or [N, K] to be transposed.
        beta: 0 or 1.
        out: as `left`, [M, N].
    """
    arguments = (address, transposes, shape, left, right, beta, out)
    left_transpose, right_transpose = transposes.literal_value

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def stored(value: Any) -> Any:
            place = cgutils.alloca_once(builder, value.type)
            builder.store(value, place)
            return place

        m, n, k = map(stored, _sizes(context, builder, signature, values, 2, types.int32))
        # Leading dimensions; BLAS takes no 0 for one, even where there is no column.
        leading = [
            stored(builder.select(builder.icmp_signed(">", size, size.type(1)), size, size.type(1)))
            for size in map(builder.load, (n, k, m))
        ]
        leading_n, leading_k, leading_m = leading
        # BLAS takes matrices in column-major order: it is given out^T = right^T x left^T.
        passed = [
            stored(ir.Constant(ir.IntType(8), ord(right_transpose))),
            stored(ir.Constant(ir.IntType(8), ord(left_transpose))),
            *(n, m, k),
            stored(ir.Constant(ir.FloatType(), 1.0)),
            _data(context, builder, signature, values, 4),
            leading_n if right_transpose == "N" else leading_k,
            _data(context, builder, signature, values, 3),
            leading_k if left_transpose == "N" else leading_m,
            stored(context.cast(builder, values[5], signature.args[5], types.float32)),
            *(_data(context, builder, signature, values, 6), leading_n),
        ]
        return _call(context, builder, values[0], passed)

    return types.void(types.intp, *arguments[1:]), generate


@intrinsic  # type: ignore[untyped-decorator]
def brgemm(
    typing_context: Any, address: Any, shape: Any, left: Any, right: Any, accumulate: Any, out: Any
) -> Any:
    """Sets out = left x right, [M, N], of matrices in bfloat16, or adds it to out.

    Args:
        typing_context: numba's own, which no caller passes.
        address: of `GemmAddresses.brgemm`.
        shape: (M, N, the even K that is summed over).
        left: the bits of bfloat16, uint16, flat, contiguous, begins with a matrix [M, K].
        right: as `left`, a matrix [K, N] in VNNI layout: pairs along K interleaved, [K / 2, N, 2].
        accumulate: whether to add.
        out: float32, flat, contiguous, begins with a matrix [M, N].
    """
    arguments = (address, shape, left, right, accumulate, out)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        m, n, k = _sizes(context, builder, signature, values, 1, types.int64)
        matrices = [_data(context, builder, signature, values, index) for index in (2, 3, 5)]
        added = builder.trunc(context.cast(builder, values[4], signature.args[4], types.int8), _FLAG)
        return _call(context, builder, values[0], [m, n, k, k, n, n, added, *matrices, _FLAG(1)])

    return types.void(types.intp, *arguments[1:]), generate


@intrinsic  # type: ignore[untyped-decorator]
def release_brgemm(typing_context: Any, address: Any) -> Any:
    """`release_brgemm(address)` frees what this thread held for `brgemm`: the CPU's tiles, if any."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(context, builder, arguments[0], [_FLAG(1)])

    return types.void(types.intp), generate
