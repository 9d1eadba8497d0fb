"""Our checksum against the xxhash package."""

import numpy as np
import pytest
import xxhash

from esmm_spark.runtime.xxh64 import Checksum, checksum_of

CONTENT = np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 31, 32, 33, 63, 64, 100, 996, 1000])
def test_a_checksum_is_the_xxh64_of_the_bytes(length: int) -> None:
    content = CONTENT[:length].tobytes()
    assert checksum_of(content) == checksum_of(CONTENT[:length]) == xxhash.xxh64_hexdigest(content)


def test_a_checksum_of_pieces_is_that_of_the_whole() -> None:
    checksum = Checksum()
    for start, stop in ((0, 320), (320, 352), (352, 352), (352, 1000)):
        checksum.update(CONTENT[start:stop])
    assert checksum.text() == xxhash.xxh64_hexdigest(CONTENT.tobytes())


def test_every_array_of_the_same_bytes_has_the_same_checksum() -> None:
    numbers = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert (
        checksum_of(numbers) == checksum_of(numbers.tobytes()) == checksum_of(memoryview(numbers.tobytes()))
    )
