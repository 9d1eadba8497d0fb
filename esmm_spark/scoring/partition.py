"""A scored partition: what it was made from, and whether that is still so.

<paths.scores>/<partition>/
    _SUCCESS         the partition is complete
    _score.json      this module's ScoreRecord
    part-*.parquet   the scores
    _rejects/        the lines of raw files that could not be scored, as in a dataset
"""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.schemas.layout import PART_FILES, SCORE_NAME, SCORE_REJECTS
from esmm_spark.files import seals, storage

FORMAT_VERSION = 1
# What a partition holds whose marker lists nothing, see `replacing.require_own_folder`.
OURS = (PART_FILES, SCORE_NAME, f"{SCORE_REJECTS}/*.parquet")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ScoreInput(_Strict):
    """What the scores follow from. Two runs with equal inputs write the same scores."""

    model_version: str
    feature_spec_digest: str
    source: Literal["examples", "raw"]
    paths: Annotated[list[str], Field(description="The dataset, or the raw files.")]
    digest: Annotated[
        str, Field(description="Of the dataset's manifest, or of the raw files' names, sizes, times.")
    ]


class ScoreRecord(_Strict):
    """What _score.json says."""

    format_version: int = FORMAT_VERSION
    input: ScoreInput
    impressions: int
    rejects: Annotated[dict[str, int], Field(description="Reason -> raw lines.")] = {}
    mean_pctr: Annotated[float | None, Field(description="Null where there is no impression.")]
    mean_pcvr: float | None
    mean_pctcvr: float | None


def partition_uri(scores: str, partition: str) -> str:
    """Returns the folder of a partition, e.g. `scores/aliccp/split=test`."""
    return storage.join(scores, partition)


def read_record(uri: str) -> ScoreRecord | None:
    """Returns what the partition at `uri` was made from, or None if it or its record isn't whole."""
    record = storage.join(uri, SCORE_NAME)
    if not storage.is_complete(uri) or not storage.exists(record):
        return None
    try:
        found = ScoreRecord.model_validate_json(seals.read_sealed(record, "score again"))
    except (ValidationError, InputError):
        return None
    return found if found.format_version == FORMAT_VERSION else None


def digest_of(content: bytes) -> str:
    """Returns 16 hex digits of `content`."""
    return hashlib.sha256(content).hexdigest()[:16]
