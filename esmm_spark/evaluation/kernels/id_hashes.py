"""Hashes of texts in Arrow arrays: of impression ids and group keys."""

from typing import Any

import numpy as np

from esmm_spark.evaluation.kernels.compiling import kernel
from esmm_spark.runtime.texts import text_memory
from esmm_spark.runtime.xxh64 import xxh64


def text_hashes(texts: Any, seed: int) -> Any:
    """Returns uint64 [N], the XXH64 of each text's UTF-8; of a null one, anything.

    Args:
        texts: an Arrow array of string or large_string.
        seed: of the hash; with 42 it is Spark's xxhash64.
    """
    hashes = np.empty(len(texts), dtype=np.uint64)
    if len(texts) == 0:
        return hashes
    content, places = text_memory(texts)
    begins = places.astype(np.int64)
    longest = int(np.diff(begins).max())
    words = np.zeros(longest // 8 + 2, dtype=np.uint64)
    _hash_all(content, begins, np.uint64(seed), words, words.view(np.uint8), hashes)
    return hashes


@kernel
def _hash_all(data: Any, begins: Any, seed: Any, words: Any, text: Any, hashes: Any) -> None:
    """Fills in the hashes.

    Args:
        data: uint8, all texts.
        begins: int64 [N + 1], where each begins.
        seed: uint64.
        words: uint64, a buffer as long as the longest text, aligned as `xxh64` wants it.
        text: the same memory as uint8.
        hashes: uint64 [N].
    """
    for i in range(hashes.shape[0]):
        length = begins[i + 1] - begins[i]
        for byte in range(length):
            text[byte] = data[begins[i] + byte]
        hashes[i] = xxh64(words, text, 0, length, seed)
