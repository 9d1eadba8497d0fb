"""Decimal numbers in raw bytes to float32, bit for bit what Python's `numpy.float32(float(text))` gives.

    [+-] (digits [. [digits]] | . digits) [(e|E) [+-] digits]

Python's other spellings (`inf`, `nan`, `1_000`, blanks around) are no numbers here: a log that has them is
broken.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from esmm_spark.logs.compiling import kernel
from esmm_spark.runtime.arrays import Bytes

# 10^0 to 10^22 are exact in a double. A mantissa up to 2^53 is, too, so one multiplication or division of the
# two rounds once: that is the nearest double, which is what float(text) gives. Source: Clinger, How to Read
# Floating Point Numbers Accurately, PLDI 1990, section 3.
_POWERS_OF_TEN = np.array([10.0**power for power in range(23)])
_MAX_EXACT_MANTISSA = 1 << 53
_MAX_EXACT_POWER = 22
_MAX_DIGITS_IN_INT64 = 18
_MAX_EXPONENT = 100_000

_PLUS, _MINUS, _POINT, _ZERO, _NINE, _UPPER_E, _LOWER_E = b"+-.09Ee"

# The C library's, which rounds correctly as Python's does, for what the exact path above can't take. It reads
# the decimal point of LC_NUMERIC, which Python leaves at "C".
_strtod = types.ExternalFunction("strtod", types.float64(types.CPointer(types.uint8), types.intp))


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing_context: Any, address: Any) -> Any:
    """Returns the address of an array's data as the pointer that a C function takes."""
    signature = types.CPointer(types.uint8)(types.uintp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, generate


@kernel
def parse_float32(data: Bytes, start: int, end: int, scratch: Bytes) -> tuple[bool, np.float32]:
    """Returns whether `data[start:end]` is a number that is finite in float32, and that number.

    Args:
        data: uint8, the raw bytes.
        start: the first byte of the number.
        end: the byte after its last.
        scratch: uint8, writable, at least end - start + 1 long.
    """
    position = start
    negative = False
    if position < end and (data[position] == _MINUS or data[position] == _PLUS):
        negative = data[position] == _MINUS
        position += 1
    mantissa, num_significant, num_digits, exponent, position = _parse_mantissa(data, position, end)
    if num_digits == 0:
        return False, np.float32(0.0)
    if position < end and (data[position] == _LOWER_E or data[position] == _UPPER_E):
        power, position = _parse_exponent(data, position + 1, end)
        exponent += power
    if position != end:
        return False, np.float32(0.0)

    if (
        num_significant <= _MAX_DIGITS_IN_INT64
        and mantissa <= _MAX_EXACT_MANTISSA
        and -_MAX_EXACT_POWER <= exponent <= _MAX_EXACT_POWER
    ):
        if exponent >= 0:
            number = float(mantissa) * _POWERS_OF_TEN[exponent]
        else:
            number = float(mantissa) / _POWERS_OF_TEN[-exponent]
        if negative:
            number = -number
    else:
        number = _parse_with_strtod(data, start, end, scratch)
    rounded = np.float32(number)
    return bool(np.isfinite(rounded)), rounded


@kernel
def _parse_mantissa(data: Bytes, position: int, end: int) -> tuple[int, int, int, int, int]:
    """Returns (digits as an integer, significant digits, all digits, power of ten, position after them).

    The integer is meaningless with more than 18 significant digits.
    """
    mantissa, num_significant, num_digits, exponent = 0, 0, 0, 0
    after_point = False
    while position < end:
        byte = data[position]
        if _ZERO <= byte <= _NINE:
            num_digits += 1
            if after_point:
                exponent -= 1
            if num_significant > 0 or byte != _ZERO:
                num_significant += 1
                if num_significant <= _MAX_DIGITS_IN_INT64:
                    mantissa = mantissa * 10 + (int(byte) - _ZERO)
        elif byte == _POINT and not after_point:
            after_point = True
        else:
            break
        position += 1
    return mantissa, num_significant, num_digits, exponent, position


@kernel
def _parse_exponent(data: Bytes, position: int, end: int) -> tuple[int, int]:
    """Returns (power of ten, position after it), or position -1 where no digit stands."""
    negative = False
    if position < end and (data[position] == _MINUS or data[position] == _PLUS):
        negative = data[position] == _MINUS
        position += 1
    if position >= end:
        return 0, -1
    power = 0
    while position < end:
        byte = data[position]
        if byte < _ZERO or byte > _NINE:
            return 0, -1
        # Capped: only its being far beyond any double matters, strtod reads the text itself.
        power = min(power * 10 + (int(byte) - _ZERO), _MAX_EXPONENT)
        position += 1
    return (-power if negative else power), position


@kernel
def _parse_with_strtod(data: Bytes, start: int, end: int, scratch: Bytes) -> float:
    for i in range(start, end):
        scratch[i - start] = data[i]
    scratch[end - start] = 0
    return float(_strtod(_pointer(np.uintp(scratch.ctypes.data)), 0))
