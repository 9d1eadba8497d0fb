"""A third event after a conversion: the user buys the item again, within a few days.

    repurchase_logit = base + _SHARE * (conversion logit - its usual value) + factors of category and age

So whoever converts more also buys again more, as with clicks and conversions: the converted are no fair
sample. Nothing else of the simulation depends on whether repurchases are drawn.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from esmm_spark.runtime.arrays import Float64s, Int64s
from esmm_spark.simulation.randomness import IdHash, block_generator
from esmm_spark.simulation.world import DrawnBlock

_STREAM = 5
_RATE = 0.25
_SHARE = 0.5
# Field -> standard deviation of its factors' share of the logit.
_CATEGORY_EFFECT, _AGE_EFFECT = 0.7, 0.4
_CATEGORY, _AGE = 206, 124


class Repurchases(NamedTuple):
    """Repurchases drawn for the impressions of a block; arrays [N].

    Attributes:
        probability: P(repurchase | conversion, impression).
        if_converted: 0 or 1, int64: what a conversion leads to, or would have led to.
    """

    probability: Float64s
    if_converted: Int64s


def repurchase_probabilities(block: DrawnBlock, seed: int) -> Float64s:
    """Returns P(repurchase | conversion, impression) [N], also of impressions without a conversion."""
    factors = IdHash(seed, "repurchase factor")
    category = block.impressions.items.category
    age = block.contexts.profile[str(_AGE)][block.impressions.context]
    pcvr = block.labels.pcvr
    usual = np.log(pcvr.mean() / (1 - pcvr.mean()))
    logit = np.log(_RATE / (1 - _RATE)) + _SHARE * (np.log(pcvr) - np.log1p(-pcvr) - usual)
    logit += _CATEGORY_EFFECT * factors.factor(category, np.int64(_CATEGORY))
    logit += _AGE_EFFECT * factors.factor(age, np.int64(_AGE)) * (age >= 0)
    return np.asarray(1 / (1 + np.exp(-logit)))


def draw_repurchases(block: DrawnBlock, seed: int, number: int) -> Repurchases:
    """Returns what is true of a block's repurchases, and what becomes of its impressions.

    Args:
        block: the impressions.
        seed: the world's.
        number: the block's.
    """
    probability = repurchase_probabilities(block, seed)
    drawn = block_generator(seed, _STREAM, number).random(len(probability))
    return Repurchases(probability, (drawn < probability).astype(np.int64))


def with_truth(truth: pa.Table, repurchases: Repurchases) -> pa.Table:
    """Returns the truth of a block's impressions with what is true of repurchases."""
    truth = truth.append_column("p_repurchase", pa.array(repurchases.probability))
    happened = pa.array(repurchases.if_converted.astype(np.int8))
    return truth.append_column("repurchase_if_conversion", happened)
