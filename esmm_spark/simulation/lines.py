r"""Blocks as Ali-CCP's raw lines, a column at a time: no Python loop over impressions or tokens.

    skeleton         sample_id,click,conversion,common_feature_index,num_tokens,tokens
    common features  common_feature_index,num_tokens,tokens

A token is `field \x02 value \x03 weight`, tokens are joined by \x01. Weights are ln(1 + count) to five
decimals where the field counts, else 1.0.
"""

import math
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esmm_spark.contracts.schemas.line_format import TOKEN_SEPARATOR, VALUE_SEPARATOR, WEIGHT_SEPARATOR
from esmm_spark.runtime.arrays import Int64s
from esmm_spark.runtime.texts import text_memory
from esmm_spark.simulation.bags import IdBags
from esmm_spark.simulation.world import DrawnBlock

# Random bits that say where in its step a common feature index lies.
JITTER_BITS = 52


def content_of(lines: pa.StringArray) -> pa.Buffer:
    """Returns all lines one after the other: the array's own bytes, not a copy."""
    data, places = text_memory(lines)
    return pa.py_buffer(data[places[0] : places[-1]])


def common_feature_lines(block: DrawnBlock, index: pa.StringArray) -> pa.StringArray:
    """Returns one line per context of the block, each ended by a line feed.

    Args:
        block: G groups.
        index: [G] the common feature index of each.
    """
    num_tokens, tokens = _joined_tokens(block.contexts.bags)
    return _comma_separated(index, num_tokens, tokens)


def skeleton_lines(block: DrawnBlock, sample_id: pa.StringArray, index: pa.StringArray) -> pa.StringArray:
    """Returns one line per impression of the block, each ended by a line feed.

    Args:
        block: N impressions in G groups.
        sample_id: [N] the id of each impression.
        index: [G] the common feature index of each group.
    """
    num_tokens, tokens = _joined_tokens(block.impressions.bags)
    click, conversion = _text_of(block.labels.click), _text_of(block.labels.conversion)
    indices = index.take(pa.array(block.impressions.context))
    return _comma_separated(sample_id, click, conversion, indices, num_tokens, tokens)


def sample_ids(first: int, num_impressions: int) -> pa.StringArray:
    """Returns the consecutive ids `first`, `first` + 1, ... as text."""
    return _text_of(np.arange(first, first + num_impressions))


def common_feature_indices(number: Int64s, num_groups: int, is_test: bool, jitter: Int64s) -> pa.StringArray:
    """Returns 16 hex digits per group, ascending by number as text and as numbers, unique over the splits.

    The range of 64 bits is cut into one even step per group; where in its step an index lies is the jitter's
    matter, except for the last bit, which is the split.

    Args:
        number: [G] the groups' numbers in their split, each in [0, num_groups).
        num_groups: groups of the split, at most 2^48.
        is_test: which split.
        jitter: [G] random, in [0, 2^JITTER_BITS).

    Example:
        16 groups: group 3 of the test split has an odd index in ["3000000000000000", "4000000000000000").
    """
    half_step = (1 << 63) // num_groups
    within = [int(value) * half_step >> JITTER_BITS for value in jitter]
    upper_bits = (n * half_step + w for n, w in zip(number.tolist(), within, strict=True))
    return pa.array([f"{2 * bits + is_test:016x}" for bits in upper_bits], type=pa.string())


def _joined_tokens(bags: dict[str, IdBags]) -> tuple[pa.StringArray, pa.StringArray]:
    """Returns the token count and the joined tokens of each owner, the fields in the order of `bags`."""
    num_owners = next(iter(bags.values())).num_owners
    owner = np.concatenate([bag.owner for bag in bags.values()])
    # Stable: an owner's tokens stay in the order of the fields.
    order = np.argsort(owner, kind="stable")
    identifier = np.concatenate([bag.id for bag in bags.values()])[order]
    count = np.concatenate([bag.count for bag in bags.values()])[order]
    field = np.repeat(np.arange(len(bags)), [len(bag.id) for bag in bags.values()])[order]
    prefixes = pa.array([f"{name}{VALUE_SEPARATOR}" for name in bags])
    texts = pc.binary_join_element_wise(
        prefixes.take(pa.array(field)), _text_of(identifier), _weight_suffixes(count), ""
    )
    lengths = np.bincount(owner, minlength=num_owners)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), texts)
    return _text_of(lengths), pc.binary_join(lists, TOKEN_SEPARATOR)


def _weight_suffixes(count: Int64s) -> pa.StringArray:
    """Returns the separator and the weight's text per count: ln(1 + count); 1.0 for 0, 'not counted'."""
    most = int(count.max(initial=0))
    return _weight_table(1 << most.bit_length()).take(pa.array(count))


@lru_cache(maxsize=32)
def _weight_table(size: int) -> pa.StringArray:
    weights = ["1.0", *(f"{math.log1p(count):.5f}" for count in range(1, size))]
    return pa.array([f"{WEIGHT_SEPARATOR}{weight}" for weight in weights])


def _comma_separated(*columns: pa.StringArray) -> pa.StringArray:
    joined = pc.binary_join_element_wise(*columns, ",")
    return pc.binary_join_element_wise(joined, "\n", "")


def _text_of(numbers: Int64s) -> pa.StringArray:
    return pa.array(numbers).cast(pa.string())
