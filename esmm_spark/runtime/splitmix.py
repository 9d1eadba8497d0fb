"""splitmix64 over numpy arrays: the one mixer of integers that are not hashed as text.

`model.kernels.mixing` has it in torch, for tensors on any device.
"""

import numpy as np
import numpy.typing as npt

# 2^64 over the golden ratio: splitmix64's step from a state to the next.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def splitmix64(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Returns splitmix64's finaliser of each word: a bijection that mixes all bits.

    Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 16, with
        Stafford's variant 13.
    """
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * MIX_1
        words = (words ^ (words >> np.uint64(27))) * MIX_2
    return words ^ (words >> np.uint64(31))
