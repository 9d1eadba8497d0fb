"""What is scored: impression groups with the columns of the examples, from a dataset or from raw files."""

from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from esmm_spark import storage
from esmm_spark.config import Config
from esmm_spark.errors import InputError
from esmm_spark.manifest import PartitionCounts, read_manifest, require_same_spec
from esmm_spark.model.directory import ModelInfo
from esmm_spark.scoring.groups import GROUP_COLUMNS
from esmm_spark.scoring.partition import ScoreInput, digest_of

_REMEDY = "run jobs/preprocess.py"


@dataclass(frozen=True)
class GroupSource:
    """Groups to score.

    Attributes:
        groups: grain: one row per group; columns GROUP_COLUMNS.
        counts: how many groups, impressions and tokens they are: what the scores are held against.
        rejects: reason -> raw lines that became no impression.
    """

    groups: DataFrame
    counts: PartitionCounts
    rejects: dict[str, int]


def examples_input(config: Config, info: ModelInfo) -> ScoreInput:
    """Returns what the scores of the dataset's partition `score.partition` follow from.

    Raises:
        InputError: no dataset, no such partition, or a file of it is missing.
        IncompleteError, UnsafeFileError: the dataset is half-written, or carries a pickle.
        SpecMismatchError: the dataset was made with another spec than the model.
    """
    dataset = config.paths.dataset
    manifest = read_manifest(dataset)
    require_same_spec(
        manifest.feature_spec,
        f"dataset {dataset}",
        info.feature_spec,
        f"model {info.model_version} in {config.paths.model}",
    )
    counts = manifest.partition(config.score.partition, dataset)
    files = _fingerprints(dataset, [file.path for file in counts.files])
    return ScoreInput(
        model_version=info.model_version,
        feature_spec_digest=info.feature_spec_digest,
        source="examples",
        paths=[dataset],
        digest=digest_of(f"{counts.model_dump_json()} {files}".encode()),
    )


def read_examples(spark: SparkSession, config: Config, info: ModelInfo) -> GroupSource:
    """Returns the groups of the partition `score.partition`, from the files that the manifest names alone."""
    dataset = config.paths.dataset
    counts = read_manifest(dataset).partition(config.score.partition, dataset)
    rows = f"array<{info.feature_spec.row_type}>"
    types = {
        "group_key": "string",
        "impression_id": "array<string>",
        "click": "array<tinyint>",
        "conversion": "array<tinyint>",
        "context_rows": rows,
        "context_weights": "array<float>",
        "context_lengths": "array<int>",
        "impression_rows": rows,
        "impression_weights": "array<float>",
        "impression_lengths": "array<int>",
    }
    schema = ", ".join(f"{column} {types[column]}" for column in GROUP_COLUMNS)
    files = [spark_path(storage.join(dataset, file.path)) for file in counts.files]
    groups = spark.read.schema(schema).parquet(*files) if files else spark.createDataFrame([], schema)
    return GroupSource(groups, counts, rejects={})


def spark_path(uri: str) -> str:
    """Returns `uri` as Spark is to read it: a plain path is this host's, whatever Spark's own default is."""
    return uri if "://" in uri else f"file://{storage.filesystem_of(uri)[1]}"


def _fingerprints(folder: str, paths: list[str]) -> list[tuple[str, int, int]]:
    """Returns name, bytes and time of change of each file. Raises InputError for one that isn't there."""
    filesystem, root = storage.filesystem_of(folder)
    infos: list[Any] = filesystem.get_file_info([storage.join(root, path) for path in paths])
    found = []
    for path, info in zip(paths, infos, strict=True):
        if not info.is_file:
            raise InputError(f"{storage.join(folder, path)} is missing, the manifest names it: {_REMEDY}")
        found.append((path, info.size, info.mtime_ns or 0))
    return found
