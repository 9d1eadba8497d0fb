"""Why a raw line is rejected.

A line has one reason: the first of these that is true of it, in this order. The number is the code that the
kernels use.
"""

from typing import Final

ACCEPTED: Final = 0
INVALID_UTF8: Final = 1
TOO_FEW_COLUMNS: Final = 2
MISSING_ID: Final = 3
BAD_LABEL: Final = 4
CONVERSION_WITHOUT_CLICK: Final = 5
BAD_TOKEN: Final = 6
TOKEN_COUNT_MISMATCH: Final = 7
SEVERAL_VALUES: Final = 8
UNKNOWN_CONTEXT: Final = 9
DUPLICATE_IMPRESSION: Final = 10
DUPLICATE_CONTEXT: Final = 11

# Code -> the reason as it stands in rejects/ and in the manifest.
REASONS: Final = (
    "accepted",
    "invalid_utf8",  # the line's bytes are no UTF-8
    "too_few_columns",  # fewer than 6 columns in a skeleton, or 3 in common features
    "missing_id",  # the sample id or the common feature index is empty
    "bad_label",  # click or conversion is neither 0 nor 1
    "conversion_without_click",  # conversion is 1, click is 0
    "bad_token",  # not `field \x02 value \x03 weight`, or a weight that is no finite number
    "token_count_mismatch",  # the line's own count isn't the number of its tokens, or no number at all
    "several_values",  # more than one value of a field that isn't declared `multi`
    "unknown_context",  # no accepted common features line has the impression's index
    "duplicate_impression",  # another impression of the split has this id and was kept
    "duplicate_context",  # another common features line of the split has this index and was kept
)
