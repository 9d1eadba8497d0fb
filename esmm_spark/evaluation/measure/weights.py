"""Bootstrap weights of impression groups, the same on every machine and in every partition.

Legend: G groups, B bootstrap samples.
"""

import math

import numpy as np
from numpy.typing import NDArray

from esmm_spark.runtime.splitmix import GOLDEN, splitmix64

_LEVELS = 1 << 16  # a weight is drawn from 16 bits of hash
_WEIGHTS_PER_WORD = 4
_CHUNK = 1024


def poisson_weights(group_hashes: NDArray[np.int64], num_samples: int, seed: int) -> NDArray[np.uint8]:
    """Returns how often each group is drawn in each bootstrap sample: `[G, B]` Poisson(1) weights.

    A weight depends on (seed, sample, group) alone, so the impressions of a group share their weights
    wherever a sort has put them, and two models are compared on the same resamples. No generator's state is
    shared, so nothing has to be collected or sent.

    The weights are the inverse of the Poisson distribution at 16 uniform bits: mean and variance are 1
    within 1e-4, none exceeds 8 (P(X > 8) = 1e-6 is cut). They cost about 0.3 us a group at 200 samples.

    Args:
        group_hashes: `[G]` int64, a hash of the group's key.
        num_samples: B.
        seed: any integer.

    Source: Chamandy, Muralidharan, Najmi, Naidu, "Estimating Uncertainty for Massive Data Streams", Google,
    2012, section 2 (Poisson bootstrap). Mixing: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
    Generators", OOPSLA 2014, figure 16 (SplitMix64).
    """
    words = -(-num_samples // _WEIGHTS_PER_WORD)
    seed_word = splitmix64(np.array([seed % (1 << 64)], dtype=np.uint64))
    groups = splitmix64(group_hashes.astype(np.int64).view(np.uint64) ^ seed_word)
    counter = np.arange(1, words + 1, dtype=np.uint64) * GOLDEN
    weights = np.empty((len(groups), num_samples), dtype=np.uint8)
    # In chunks that stay in the processor's cache: four times as fast as all groups at once.
    for start in range(0, len(groups), _CHUNK):
        mixed = splitmix64(groups[start : start + _CHUNK, None] + counter[None, :])
        uniform = mixed.astype("<u8", copy=False).view("<u2")
        weights[start : start + _CHUNK] = np.take(_POISSON, uniform)[:, :num_samples]
    return weights


def with_unit_weight(weights: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns `[G, 1 + B]`: a first column of ones, so that column 0 of a weighted sum is the plain sum."""
    ones = np.ones((len(weights), 1), dtype=np.uint8)
    return np.concatenate([ones, weights], axis=1)


def _poisson_table() -> NDArray[np.uint8]:
    cumulative = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(12)])
    return np.searchsorted(cumulative, (np.arange(_LEVELS) + 0.5) / _LEVELS).astype(np.uint8)


_POISSON = _poisson_table()
