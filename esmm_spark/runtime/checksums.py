"""Checksums of bytes that are to be the same when they are read again: XXH3 of 64 bits.

A checksum names its algorithm: `xxh3_64:78af5f94892f3950`. Those of before are 16 hex digits without a name,
and XXH64. docs/decisions/034-xxh3-checksums.md has what the algorithms cost.

Source: Collet, xxHash fast digest algorithm specification 0.2.0, "XXH3 algorithm overview".
"""

from collections.abc import Iterable
from typing import Any

import xxhash

_NAME = "xxh3_64"
NUM_DIGITS = 16


def checksum_of(data: Any) -> str:
    """Returns the checksum of a contiguous array or buffer.

    Example: `checksum_of(b"abc")` is `xxh3_64:78af5f94892f3950`.
    """
    return f"{_NAME}:{xxhash.xxh3_64_hexdigest(data)}"


def checksum_of_pieces(pieces: Iterable[Any]) -> str:
    """Returns the `checksum_of` bytes that come in pieces, each a contiguous array or buffer."""
    state = xxhash.xxh3_64()
    for piece in pieces:
        state.update(piece)
    return f"{_NAME}:{state.hexdigest()}"


def is_checksum_of(checksum: str, data: Any) -> bool:
    """Returns whether `checksum` is that of a contiguous array or buffer, by the algorithm that it names.

    It is not where no algorithm has that name.
    """
    if ":" not in checksum:
        return xxhash.xxh64_hexdigest(data) == checksum
    return checksum_of(data) == checksum
