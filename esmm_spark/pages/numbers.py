"""Numbers as people read them."""


def percent(part: float, whole: float) -> str:
    """Returns `part / whole` as a percentage of three significant digits, `0.0541%`, or `n/a`."""
    if whole == 0:
        return "n/a"
    if part == 0:
        return "0%"
    share = 100 * part / whole
    digits = 0 if share >= 100 else 1 if share >= 10 else 2 if share >= 1 else 3
    return f"{share:.{digits}f}%" if share >= 0.01 else f"{share:.2e}%"
