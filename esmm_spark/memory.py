"""What training and scoring tell the C library about memory."""

import ctypes

# glibc's names and numbers, malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """Lets the process keep up to 1 GiB that it has freed, instead of giving it back and asking for it anew.

    Each batch needs the same few dozen megabytes. To have the system hand them out, zeroed and page by page,
    took a tenth of a step's time with two ranks on a host, and half of the towers' in scoring. Does nothing
    where the C library isn't glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_TRIM_THRESHOLD, 1 << 30)
    mallopt(_TOP_PAD, 64 << 20)
    mallopt(_MMAP_THRESHOLD, 32 << 20)
