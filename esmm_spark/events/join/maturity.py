"""Whether an impression is mature: its labels can no longer change."""

from pyspark.sql import Column
from pyspark.sql import functions as F

from esmm_spark.contracts.funnel import Funnel

_MICROSECONDS = 1_000_000


def is_mature(time_us: Column, funnel: Funnel, as_of_us: int | None) -> Column:
    """Returns whether all windows of an impression end by `as_of_us`; without one, all are mature.

    The last click that can count comes at impression + click window, and the last conversion of that click at
    impression + click window + conversion window, and so on along the chain: a label is sure once the longest
    chain's time has passed.

    Example:
        Windows of 1 and 7 days: an impression at the start of November 1 is mature as of November 9, 00:00,
        one a microsecond later is not.
    """
    if as_of_us is None:
        return F.lit(True)
    return time_us + funnel.longest_window_s * _MICROSECONDS <= as_of_us
