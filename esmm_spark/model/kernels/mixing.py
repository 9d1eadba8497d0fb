"""splitmix64 over int64 tensors on any device: random bits as a function of a counter.

`runtime.splitmix` has it over numpy arrays.
"""

from torch import Tensor


def signed(constant: int) -> int:
    """Returns the int64 of the lowest 64 bits of a whole number."""
    bits = constant % 2**64
    return bits - 2**64 if bits >= 2**63 else bits


# 2^64 over the golden ratio: splitmix64's step from a state to the next.
STEP = signed(0x9E3779B97F4A7C15)


def mix64(z: Tensor) -> Tensor:
    """Returns splitmix64's finaliser of int64 `z`, in place. int64 multiplication wraps as unsigned does.

    Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 17
        (mix64variant13).
    """
    z.bitwise_xor_(_shift_right(z, 30)).mul_(signed(0xBF58476D1CE4E5B9))
    z.bitwise_xor_(_shift_right(z, 27)).mul_(signed(0x94D049BB133111EB))
    return z.bitwise_xor_(_shift_right(z, 31))


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Returns `z` shifted right with zeros coming in: torch's own shift copies the sign."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)
