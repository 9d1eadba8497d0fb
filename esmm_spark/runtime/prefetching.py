"""What kernels ask the processor to fetch before they need it."""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from esmm_spark.runtime.compiling import compiled

_LINE_BYTES = 64  # of a processor's cache


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, index: Any, offset: Any) -> Any:
    """`prefetch(array, index, offset)` prefetches the cache line `offset` bytes behind `array[index]`.

    What lies at random places in memory is a cache miss each time, which is waited for without it.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, index_type, offset_type = signature.args
        struct = context.make_array(array_type)(context, builder, arguments[0])
        place = context.cast(builder, arguments[1], index_type, types.intp)
        stride = cgutils.unpack_tuple(builder, struct.strides, array_type.ndim)[0]
        beyond = context.cast(builder, arguments[2], offset_type, types.intp)
        start = builder.add(builder.ptrtoint(struct.data, ir.IntType(64)), beyond)
        pointer = builder.inttoptr(builder.add(start, builder.mul(place, stride)), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        for_reading, keep_in_all_caches, data = number(0), number(3), number(1)
        builder.call(function, [pointer, for_reading, keep_in_all_caches, data])
        return context.get_dummy_value()

    return types.void(array, index, offset), generate


def _prefetch_span(array: Any, index: Any, size: int) -> None:
    """Prefetches the cache lines of the `size` bytes from `array[index]` on."""
    for start in range(0, size, _LINE_BYTES):
        prefetch(array, index, start)
    # They may begin anywhere in a line, and end in one more than they are long.
    prefetch(array, index, size - 1)


prefetch_span = compiled(_prefetch_span, ("runtime/prefetching.py",), _nrt=False, inline="always")
