"""A log that comes in splits, opened: what every format of `logs.format` but events becomes."""

from collections.abc import Mapping
from typing import NamedTuple

from esmm_spark.contracts.fields.fitted import FittedNumber
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.logs.raw_files import CanonicalLines


class SplitLines(NamedTuple):
    """The lines of one split.

    Attributes:
        name: `train`, `validation` or `test`.
        lines: its lines.
        paths: where contexts and impressions come from, for the manifest and for messages.
        source: of what log the impressions' lines were made, and what became of that log's own lines; None:
            they are lines of a log themselves. Several splits may be of one.
    """

    name: str
    lines: CanonicalLines
    paths: tuple[str, str]
    source: SourceCounts | None = None


class OpenLog(NamedTuple):
    """The splits of a log.

    Attributes:
        splits: each of another name.
        rejects_files: of lines that were rejected already, relative to the folder that is written.
        scratch: folders that can be deleted once the splits are written.
        fitted: what placed the numbers in its lines.
    """

    splits: list[SplitLines]
    rejects_files: list[str]
    scratch: list[str]
    fitted: Mapping[str, FittedNumber] = {}
