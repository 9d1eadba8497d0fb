"""XXH64 in compiled kernels: of values that are hashed to buckets, and of keys and ids.

Python's `xxhash.xxh64(data, seed)` and Spark's `xxhash64(string)`, whose seed is 42, give the same 64 bits.

Source: Collet, xxHash fast digest algorithm specification 0.1.1, "XXH64 algorithm description".
"""

import numpy as np

from esmm_spark.runtime.arrays import Bytes, Words
from esmm_spark.runtime.compiling import Function, compiled

_PRIME_1 = np.uint64(0x9E3779B185EBCA87)
_PRIME_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME_3 = np.uint64(0x165667B19E3779F9)
_PRIME_4 = np.uint64(0x85EBCA77C2B2AE63)
_PRIME_5 = np.uint64(0x27D4EB2F165667C5)


def _kernel(function: Function) -> Function:
    # _nrt=False as in KernelSet.kernel: no array is made here.
    return compiled(function, ("runtime/xxh64.py",), _nrt=False)


@_kernel
def xxh64(words: Words, text: Bytes, first_word: int, length: int, seed: np.uint64) -> np.uint64:
    """Returns the XXH64 of `length` bytes.

    Args:
        words: uint64, the bytes as little-endian words.
        text: uint8, the same memory.
        first_word: the place in `words` where the bytes begin.
        length: in bytes.
        seed: uint64.
    """
    word, end_word = first_word, first_word + (length >> 3)
    if length >= 32:
        end_of_stripes = end_word - (length >> 3) % 4
        state = _hash_stripes(words, word, end_of_stripes, seed)
        word = end_of_stripes
    else:
        state = seed + _PRIME_5
    state += np.uint64(length)
    while word < end_word:
        state = _rotate(state ^ _round(np.uint64(0), words[word]), 27) * _PRIME_1 + _PRIME_4
        word += 1
    position, end = end_word << 3, (first_word << 3) + length
    if end - position >= 4:
        half = words[end_word] & np.uint64(0xFFFFFFFF)
        state = _rotate(state ^ (half * _PRIME_1), 23) * _PRIME_2 + _PRIME_3
        position += 4
    while position < end:
        state = _rotate(state ^ (np.uint64(text[position]) * _PRIME_5), 11) * _PRIME_1
        position += 1
    state = (state ^ (state >> np.uint64(33))) * _PRIME_2
    state = (state ^ (state >> np.uint64(29))) * _PRIME_3
    return state ^ (state >> np.uint64(32))


@_kernel
def _hash_stripes(words: Words, start: int, end: int, seed: np.uint64) -> np.uint64:
    """Returns the converged accumulators over `words[start:end]`, stripes of four words."""
    first, second = seed + _PRIME_1 + _PRIME_2, seed + _PRIME_2
    third, fourth = seed, seed - _PRIME_1
    for word in range(start, end, 4):
        first = _round(first, words[word])
        second = _round(second, words[word + 1])
        third = _round(third, words[word + 2])
        fourth = _round(fourth, words[word + 3])
    return _converge(first, second, third, fourth)


@_kernel
def _converge(first: np.uint64, second: np.uint64, third: np.uint64, fourth: np.uint64) -> np.uint64:
    state = _rotate(first, 1) + _rotate(second, 7) + _rotate(third, 12) + _rotate(fourth, 18)
    for accumulator in (first, second, third, fourth):
        state = (state ^ _round(np.uint64(0), accumulator)) * _PRIME_1 + _PRIME_4
    return state


@_kernel
def _round(accumulator: np.uint64, lane: np.uint64) -> np.uint64:
    return _rotate(accumulator + lane * _PRIME_2, 31) * _PRIME_1


@_kernel
def _rotate(word: np.uint64, bits: int) -> np.uint64:
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))
