"""The share of the groups that is set aside for validation: the one rule, for Spark and for Arrow batches.

The kernel that packs lines has the third form of it: it takes prefix and threshold (lines/packing.py).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as F

from esmm_spark.runtime.arrays import Bools
from esmm_spark.runtime.texts import text_memory
from esmm_spark.samples.hashing.keys import hash_texts

SHARE_STEPS = 1_000_000


@dataclass(frozen=True)
class HeldOut:
    """The share of the groups that goes to a partition of its own.

    A group is held out if pmod(xxhash64("<seed>#<key>"), 1,000,000) < fraction * 1,000,000: the same groups
    whatever else is in the log.

    Attributes:
        partition: for example `split=validation`.
        fraction: in [0, 1).
        seed: any integer.
    """

    partition: str
    fraction: float
    seed: int

    @property
    def threshold(self) -> int:
        """`fraction` in steps of 1 / SHARE_STEPS."""
        return round(self.fraction * SHARE_STEPS)

    @property
    def prefix(self) -> str:
        """What stands before the key in the text that is hashed."""
        return f"{self.seed}#"


def is_held_out(held_out: HeldOut) -> Column:
    """Returns whether the group `key` is held out."""
    text_hash = F.xxhash64(F.concat(F.lit(held_out.prefix), "key"))
    return F.pmod(text_hash, F.lit(SHARE_STEPS)) < held_out.threshold


def held_out_mask(examples: pa.RecordBatch, held_out: HeldOut) -> Bools:
    """Returns [G] whether each group is held out."""
    keys = examples.column("group_key")
    prefix = np.frombuffer(held_out.prefix.encode(), dtype=np.uint8)
    hashes = hash_texts(prefix, *text_memory(keys))
    # numpy's % has Python's sign, which is that of Spark's pmod.
    mask: Bools = hashes % SHARE_STEPS < held_out.threshold
    return mask
