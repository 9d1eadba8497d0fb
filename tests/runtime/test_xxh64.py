"""Our kernel of XXH64 against the xxhash package."""

import numpy as np
import pytest
import xxhash

from esmm_spark.runtime.xxh64 import xxh64

CONTENT = np.random.default_rng(0).integers(0, 256, 1008, dtype=np.uint8)


@pytest.mark.parametrize("seed", [0, 42, 2**64 - 1])
@pytest.mark.parametrize("first_word", [0, 1])
@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 31, 32, 33, 63, 64, 100, 996, 1000])
def test_the_kernel_is_the_xxh64_of_the_bytes(length: int, first_word: int, seed: int) -> None:
    found = xxh64(CONTENT.view(np.uint64), CONTENT, first_word, length, np.uint64(seed))
    text = CONTENT[8 * first_word :][:length].tobytes()
    assert int(found) == xxhash.xxh64_intdigest(text, seed)
