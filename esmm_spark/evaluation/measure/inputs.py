"""The files of scores and of the simulator's truth, and what must hold before a task opens one."""

import posixpath
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.locations import literal_hint, place_of
from esmm_spark.contracts.schemas.columns import Column, score_columns
from esmm_spark.contracts.schemas.layout import SCORE_NAME, TRUTH
from esmm_spark.contracts.schemas.records import ScoreRecord
from esmm_spark.contracts.schemas.task_columns import truth_columns
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.evaluation.measure.plan import Span
from esmm_spark.files import filesystems, seals, storage
from esmm_spark.files.records import read_record
from esmm_spark.files.schemas import arrow_type

_SCORE_AGAIN = "score the partition again with --force"


@dataclass(frozen=True)
class Source:
    """Parquet files that tasks read.

    Attributes:
        uri: their folder, or the one file.
        spans: their row groups, each once.
    """

    uri: str
    spans: tuple[Span, ...]

    @property
    def num_impressions(self) -> int:
        """Impressions of all row groups, from the files' footers."""
        return sum(span.num_impressions for span in self.spans)


def find_scores(folder: str, tasks: Tasks) -> Source:
    """Returns the scores in a partition's folder.

    Raises:
        InputError: nothing there, no impressions, a file that isn't Parquet, lacks a column or is damaged, or
            another number of impressions than the scorer wrote.
        IncompleteError: the partition is half-written.
    """
    storage.require_complete(folder, "scores", "run jobs/score.py")
    storage.refuse_pickles(folder, "scores")
    names = [name for name, _ in storage.list_files(folder, ".parquet", recursive=False) if _is_data(name)]
    seals.verify(folder, names, _SCORE_AGAIN)
    found = _check_files(folder, score_columns(tasks.all_score_columns, tasks.names, {}), "scores")
    _check_record(folder, found.num_impressions)
    return found


def find_truth(path: str, tasks: Tasks) -> Source:
    """Returns the simulator's truth, of all splits. Raises InputError as `find_scores` does."""
    if not storage.exists(path):
        raise InputError(
            f"no truth at {path}{literal_hint(path)}: evaluate.truth names the {TRUTH} of jobs/simulate.py"
        )
    return _check_files(path, truth_columns(tasks), "truth")


def baseline_folder(path: str, partition: str) -> str:
    """Returns the folder of the baseline's scores: `path` is a scores root or the partition itself."""
    below = storage.join(path, partition)
    is_partition = posixpath.basename(path.rstrip("/")) == partition or storage.is_complete(path)
    return path if is_partition and not storage.exists(below) else below


def require_other_scores(baseline: str, scores: str) -> None:
    """Raises ConfigError if both folders are one, so that a model would be compared with itself."""
    if place_of(baseline) == place_of(scores):
        raise ConfigError(
            f"evaluate.baseline_scores leads to {baseline}, the scores that are evaluated: name those of "
            "another model, or set evaluate.baseline_scores=null"
        )


def one_version(versions: Collection[str | None], folder: str) -> str:
    """Returns the one model version that made the scores. Raises InputError if there are several, or none."""
    named = sorted(str(version) for version in versions)
    if len(named) != 1 or None in versions:
        raise InputError(
            f"the scores at {folder} carry {len(named)} model versions ({', '.join(named)}), not one: "
            f"{_SCORE_AGAIN}"
        )
    return named[0]


def _check_files(uri: str, columns: Sequence[Column], what: str) -> Source:
    """Returns the Parquet file or files at `uri`, which must all have `columns`."""
    filesystem, path = filesystems.filesystem_of(uri)
    if filesystem.get_file_info(path).type == fs.FileType.File:
        uris = [uri]
    else:
        names = [name for name, _ in storage.list_files(uri, ".parquet") if _is_data(name)]
        uris = [storage.join(uri, name) for name in names]
    # Footers only: a file of any size costs a few reads from its end.
    spans = [span for file in uris for span in _check_file(filesystems.absolute(file), columns, what)]
    if sum(span.num_impressions for span in spans) == 0:
        raise InputError(f"the {what} at {uri} have no impressions in {len(uris)} Parquet files")
    return Source(uri, tuple(spans))


def _check_file(uri: str, columns: Sequence[Column], what: str) -> list[Span]:
    """Returns the row groups of one Parquet file that hold impressions."""
    filesystem, file = filesystems.filesystem_of(uri)
    try:
        with filesystem.open_input_file(file) as stream:
            metadata = pq.read_metadata(stream)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).split(". ")[0]
        raise InputError(
            f"{file} is no Parquet file, or a truncated one ({reason}): write {what} again"
        ) from error
    found = {field.name: field.type for field in metadata.schema.to_arrow_schema()}
    missing = [column.name for column in columns if column.name not in found]
    if missing:
        raise InputError(
            f"{file} lacks the columns {', '.join(missing)} of {what}: it has {', '.join(found)}"
        )
    for column in columns:
        # Both are strings.
        kind = pa.string() if pa.types.is_large_string(found[column.name]) else found[column.name]
        if kind != arrow_type(column):
            raise InputError(
                f"column {column.name} of {file} is {found[column.name]}, of {what} it must be {column.type}"
            )
    sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    return [Span(uri, index, size) for index, size in enumerate(sizes) if size]


def _check_record(folder: str, num_impressions: int) -> None:
    """Raises InputError if the scorer recorded another number of impressions: files have changed since."""
    uri = storage.join(folder, SCORE_NAME)
    if not storage.exists(uri):
        return
    expected = read_record(uri, ScoreRecord, _SCORE_AGAIN).impressions
    if expected != num_impressions:
        raise InputError(
            f"the scores at {folder} have {num_impressions} impressions, {SCORE_NAME} tells of {expected}: "
            f"{_SCORE_AGAIN}"
        )


def _is_data(name: str) -> bool:
    """Returns whether Spark reads a file: neither it nor a folder above it begins with `_` or `.`."""
    return not any(part.startswith(("_", ".")) for part in name.split("/"))
