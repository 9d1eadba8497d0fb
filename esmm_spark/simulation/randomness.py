"""Random numbers as a function of seed and purpose, whatever order they are drawn in.

Two kinds. What belongs to an id (a shop's brand, a category's latent factor) is a hash of the id, so that
every worker finds the same without a table. What belongs to a block of groups comes from a counter-based
generator keyed by the seed and the block.
"""

import zlib

import numpy as np

from esmm_spark.runtime.arrays import Float64s, Int64s
from esmm_spark.runtime.splitmix import GOLDEN, splitmix64

_SQRT_12 = 12.0**0.5


def block_generator(seed: int, stream: int, block: int) -> np.random.Generator:
    """Returns the generator of one block of one stream (a split, or the calibration sample).

    Args:
        seed: the run's seed, 0 <= seed < 2^63.
        stream: which sequence of blocks, 0 <= stream < 2^15.
        block: the block's number in it, 0 <= block < 2^48.
    """
    return np.random.Generator(
        np.random.Philox(key=np.array([seed, (stream << 48) | block], dtype=np.uint64))
    )


class IdHash:
    """Uniform and normal numbers that belong to ids.

    Args:
        seed: the run's seed.
        purpose: what they are for; another purpose gives independent numbers for the same ids.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        salt = np.array([seed], dtype=np.uint64) * GOLDEN + np.uint64(zlib.crc32(purpose.encode()))
        self._salt = splitmix64(salt)[0]

    def uniform(self, *ids: Int64s | np.int64) -> Float64s:
        """Returns one number in [0, 1) per tuple of ids; the arrays broadcast."""
        state = np.full((), self._salt, dtype=np.uint64)
        with np.errstate(over="ignore"):
            for part in ids:
                state = splitmix64((state ^ np.asarray(part).astype(np.uint64)) + GOLDEN)
        return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, bound: int, *ids: Int64s | np.int64) -> Int64s:
        """Returns one integer in [0, bound) per tuple of ids."""
        return (self.uniform(*ids) * bound).astype(np.int64)

    def factor(self, *ids: Int64s | np.int64) -> Float64s:
        """Returns one number of mean 0 and variance 1 per tuple of ids: uniform in [-sqrt(3), sqrt(3)].

        Bounded on purpose: no single id dominates a logit.
        """
        return (self.uniform(*ids) - 0.5) * _SQRT_12


def zipf_rank(uniform: Float64s, size: Int64s | int) -> Int64s:
    """Returns ranks in [0, size) that follow Zipf's law: P(rank r) = log((r + 2) / (r + 1)) / log(size + 1).

    Args:
        uniform: numbers in [0, 1), any shape.
        size: the number of ranks; an array of the same shape, or one for all.
    """
    sizes = np.asarray(size, dtype=np.float64)
    ranks = np.exp(uniform * np.log(sizes + 1.0)).astype(np.int64) - 1
    return np.minimum(ranks, np.asarray(size, dtype=np.int64) - 1)
