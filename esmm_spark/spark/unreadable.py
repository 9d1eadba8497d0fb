"""Translates failed reads of Spark's tasks into one line that names the file.

A truncated or damaged file shows only when a task comes to the place: whatever job reads it fails with
Spark's FAILED_READ_FILE and Java's stack.
"""

import re
from urllib.parse import unquote

from esmm_spark.contracts.errors import InputError

_FILE = re.compile(
    r"\[FAILED_READ_FILE(?:\.(\w+))?\] Encountered error while reading file (.+?)\.\s+(?:SQLSTATE|$)",
    re.MULTILINE,
)
_REASONS = {
    "FILE_NOT_EXIST": "it was deleted while it was read",
    "PARQUET_COLUMN_DATA_TYPE_MISMATCH": "a column has another type",
}
_CAUSE = re.compile(r"^Caused by: (?:[\w.$]+(?:Exception|Error): )?(.*)$", re.MULTILINE)
_HINTS = (
    ("zStandard library not available", "Spark's Hadoop has no zstd here: write the file as .gz or .bz2"),
    ("Unexpected end of input stream", "write it again, whole"),
    ("checksum", "its content has changed since it was written: write it again"),
)
_MAX_REASON = 200


def unreadable_file(text: str, remedy: str) -> InputError | None:
    """Returns what to tell of a Spark job that failed because of an input file; None of any other failure.

    Args:
        text: what Spark says, with Java's stack trace.
        remedy: what to do where nothing more is known.
    """
    found = _FILE.search(text + "\n")
    if found is None:
        return None
    # The last cause is the first one that failed.
    causes = [cause for cause in _CAUSE.findall(text[found.end() :]) if cause.strip()]
    hint = next((hint for sign, hint in _HINTS if any(sign in cause for cause in causes)), remedy)
    reason = _REASONS.get(found[1] or "")
    if reason is None:
        said = f" ({causes[-1].strip()[:_MAX_REASON]})" if causes else ""
        reason = f"it is truncated, corrupt or not what its name says{said}"
    # Spark tells a URI.
    return InputError(f"can't read {unquote(found[2])}: {reason}: {hint}")
