"""Texts of Arrow as arrays of numpy over the same memory."""

from typing import Any

import numpy as np
import pyarrow as pa

from esmm_spark.runtime.arrays import Bytes

_LARGE = (pa.large_string(), pa.large_binary())


def text_memory(texts: Any) -> tuple[Bytes, Any]:
    """Returns the bytes in which an array's texts lie, and [N + 1] where each begins and the last one ends.

    Both are read-only. There may be bytes before the first text and behind the last one; what lies where a
    text is null, nobody knows.

    Args:
        texts: an Arrow array [N] of string or binary, or the large ones, whose places are int64, not int32.
    """
    kind = np.dtype(np.int64 if texts.type in _LARGE else np.int32)
    _, offsets, data = texts.buffers()
    content = np.frombuffer(b"" if data is None else data, dtype=np.uint8)
    if len(texts) == 0:
        return content, np.zeros(1, kind)
    return content, np.frombuffer(offsets, kind, len(texts) + 1, texts.offset * kind.itemsize)
