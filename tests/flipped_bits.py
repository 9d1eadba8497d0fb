"""One bit of a file the other way round, at places all over it."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np


def flips_of(path: Path, count: int, seed: int = 0) -> Iterator[int]:
    """Flips one random bit in each of `count` parts of the file, one at a time; yields its byte's place.

    So the beginning, the end and all between are tried. Afterwards the file is what it was.
    """
    content = path.read_bytes()
    random = np.random.default_rng(seed)
    bounds = np.linspace(0, len(content), min(count, len(content)) + 1).astype(int).tolist()
    try:
        for start, stop in pairwise(bounds):
            place = int(random.integers(start, stop))
            changed = bytearray(content)
            changed[place] ^= 1 << int(random.integers(8))
            path.write_bytes(changed)
            yield place
    finally:
        path.write_bytes(content)
