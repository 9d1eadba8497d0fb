"""How large a table must be: expected hash collisions."""

_FEW_SHARE, _MANY_SHARE = 1 / 20, 1 / 5
_FEW_BUCKETS, MOST_BUCKETS, LEAST_BUCKETS = 1 << 20, 1 << 26, 1 << 4


def colliding_share(distinct: int, num_buckets: int) -> float:
    """Returns the expected share of values whose bucket another value has, too.

    Of n values each other one falls into a value's bucket with probability 1 / (B - 1), bucket 0 being that
    of rare values: 1 - (1 - 1 / (B - 1)) ** (n - 1).

    Worked example: 100 values in 1,000 buckets: 1 - (998 / 999) ** 99 = 9.4%.
    """
    free = num_buckets - 1
    if distinct < 2:
        return 0.0
    return float(1 - (1 - 1 / free) ** (distinct - 1)) if free > 1 else 1.0


def suggested_buckets(distinct: int) -> int:
    """Returns a power of two: 20 buckets per value, of more than 50,000 values 5, at most 2^26 in all."""
    for share, most in ((_FEW_SHARE, _FEW_BUCKETS), (_MANY_SHARE, MOST_BUCKETS)):
        wanted = max(LEAST_BUCKETS, 1 << (max(int(distinct / share), 1) - 1).bit_length())
        if wanted <= most:
            return wanted
    return MOST_BUCKETS
