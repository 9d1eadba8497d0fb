"""The record of a scored partition: its inputs, and whether the scores are up to date.

<paths.scores>/<partition>/
    _SUCCESS         the partition is complete
    _score.json      records.ScoreRecord
    part-*.parquet   the scores
    _rejects/        the lines of raw files that could not be scored, as in a dataset
"""

import hashlib

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.schemas.layout import PART_FILES, SCORE_NAME, SCORE_REJECTS
from esmm_spark.contracts.schemas.records import ScoreRecord
from esmm_spark.files import storage
from esmm_spark.files.records import read_record

# What a partition holds whose marker lists nothing, see `replacing.require_own_folder`.
OURS = (PART_FILES, SCORE_NAME, f"{SCORE_REJECTS}/*.parquet")


def partition_uri(scores: str, partition: str) -> str:
    """Returns the folder of a partition, e.g. `scores/aliccp/split=test`."""
    return storage.join(scores, partition)


def find_record(uri: str) -> ScoreRecord | None:
    """Returns what the partition at `uri` was made from, or None if it or its record isn't whole."""
    record = storage.join(uri, SCORE_NAME)
    if not storage.is_complete(uri) or not storage.exists(record):
        return None
    try:
        return read_record(record, ScoreRecord, "score again")
    except InputError:
        return None


def digest_of(content: bytes) -> str:
    """Returns 16 hex digits of `content`."""
    return hashlib.sha256(content).hexdigest()[:16]
