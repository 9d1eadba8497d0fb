"""Checksums: XXH3 as its specification has it, XXH64 of before, each by its name."""

from itertools import pairwise

import numpy as np
import pytest
import xxhash

from esmm_spark.runtime.checksums import checksum_of, checksum_of_pieces, is_checksum_of

CONTENT = np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8)


def test_a_checksum_is_the_one_that_xxhash_documents() -> None:
    # XXH3_64bits("", 0) in xxHash's own table of test vectors.
    assert checksum_of(b"") == "xxh3_64:2d06800538d394c2"
    assert checksum_of(b"abc") == "xxh3_64:78af5f94892f3950"


def test_a_checksum_of_pieces_is_that_of_the_whole() -> None:
    cuts = (0, 320, 321, 321, 352, 1000)
    pieces = [CONTENT[start:stop] for start, stop in pairwise(cuts)]
    assert checksum_of_pieces(iter(pieces)) == checksum_of(CONTENT)
    assert checksum_of_pieces([]) == checksum_of(b"")


def test_every_array_of_the_same_bytes_has_the_same_checksum() -> None:
    numbers = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert (
        checksum_of(numbers) == checksum_of(numbers.tobytes()) == checksum_of(memoryview(numbers.tobytes()))
    )


@pytest.mark.parametrize("length", [0, 7, 31, 1000])
def test_each_bit_is_covered_by_checksums_of_now_and_before(length: int) -> None:
    content = bytearray(CONTENT[:length].tobytes())
    for checksum in (checksum_of(content), xxhash.xxh64_hexdigest(content)):
        assert is_checksum_of(checksum, content)
        for place in range(0, 8 * length, 37):
            flipped = content.copy()
            flipped[place // 8] ^= 1 << place % 8
            assert not is_checksum_of(checksum, flipped), (checksum, place)


def test_a_checksum_of_an_unknown_algorithm_is_that_of_nothing() -> None:
    digits = xxhash.xxh3_64_hexdigest(b"abc")
    for checksum in ("", digits, f"xxh9:{digits}", f":{digits}", f"xxh3_64:{xxhash.xxh64_hexdigest(b'abc')}"):
        assert not is_checksum_of(checksum, b"abc")
