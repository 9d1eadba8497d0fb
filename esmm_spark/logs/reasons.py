"""Why a raw line is rejected.

A line has one reason: the first of these that is true of it, in this order. The number is the code that the
kernels use.
"""

from typing import Final

from esmm_spark.contracts.tasks import NO_PARENT, Tasks

ACCEPTED: Final = 0
INVALID_UTF8: Final = 1
TOO_FEW_COLUMNS: Final = 2
MISSING_ID: Final = 3
BAD_LABEL: Final = 4
BAD_TOKEN: Final = 5
TOKEN_COUNT_MISMATCH: Final = 6
SEVERAL_VALUES: Final = 7
UNKNOWN_CONTEXT: Final = 8
DUPLICATE_IMPRESSION: Final = 9
DUPLICATE_CONTEXT: Final = 10
# A label that is 1 where its parent's is 0 has this code plus the number of its task: it follows BAD_LABEL.
FIRST_ORPHAN: Final = 11

_NAMES: Final = (
    "accepted",
    "invalid_utf8",  # the line's bytes are no UTF-8
    "too_few_columns",  # fewer columns than a skeleton line has, or fewer than 3 in common features
    "missing_id",  # the sample id or the common feature index is empty
    "bad_label",  # a label is neither 0 nor 1
    "bad_token",  # not `field \x02 value \x03 weight`, or a weight that is no finite number
    "token_count_mismatch",  # the line's own count isn't the number of its tokens, or no number at all
    "several_values",  # more than one value of a field that isn't declared `multi`
    "unknown_context",  # no accepted common features line has the impression's index
    "duplicate_impression",  # another impression of the split has this id and was kept
    "duplicate_context",  # another common features line of the split has this index and was kept
)

BAD_LABEL_NAME: Final = _NAMES[BAD_LABEL]
UNKNOWN_CONTEXT_NAME: Final = _NAMES[UNKNOWN_CONTEXT]


def reason_names(tasks: Tasks) -> tuple[str, ...]:
    """Returns code -> the reason as it stands in rejects/ and in the manifest.

    A task whose label is 1 where its parent's is 0 has a code and a name of its own: FIRST_ORPHAN + the
    task's number, and for example `conversion_without_click`. A root's is never given.
    """
    roots = zip(tasks.names, tasks.parents, strict=True)
    of_tasks = ("" if parent == NO_PARENT else tasks.orphan_reason(name) for name, parent in roots)
    return (*_NAMES, *of_tasks)
