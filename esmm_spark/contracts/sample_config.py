"""The config of where things lie and what examples are made of: `paths`, `logs` and `samples`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.event_config import EventLogs
from esmm_spark.contracts.impressions import CarriedKind
from esmm_spark.contracts.section import InputGlob, InputPath, Needs, OutputPath, Section
from esmm_spark.contracts.tables.table_config import TableLog

# A Parquet file names its codec itself: readers need not know, and files of both may stand side by side.
Compression = Literal["lz4", "zstd"]


class Paths(Section):
    """Where each stage writes, and the next one reads."""

    dataset: Annotated[
        OutputPath, Field(description="Examples, rejects and manifest; written by preprocess.")
    ]
    model: Annotated[OutputPath, Field(description="Models and checkpoints; written by train.")]
    scores: Annotated[OutputPath, Field(description="Scores; written by score.")]
    report: Annotated[OutputPath, Field(description="metrics.json and report.html; written by evaluate.")]


class SplitLogs(Section):
    """The raw files of one split."""

    skeleton: Annotated[InputGlob, Field(description="File, folder or glob of the impressions.")]
    common_features: Annotated[InputGlob, Field(description="File, folder or glob of the contexts.")]


class Logs(Section):
    """The raw logs."""

    format: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9_]*$",
            description="Of the raw files: `aliccp`, another of esmm_spark/logs/formats.py, `table`, or "
            "`events`.",
        ),
    ] = "aliccp"
    splits: Annotated[
        dict[Literal["train", "test"], SplitLogs],
        Field(description="Split -> its raw files, at least one; neither for `events` nor for `table`."),
    ] = {}
    events: Annotated[
        EventLogs | None,
        Field(description="`events`: the three logs and their join."),
        Needs("format", value="events"),
    ] = None
    table: Annotated[
        TableLog | None, Field(description="`table`: one labelled table."), Needs("format", value="table")
    ] = None
    max_reject_fraction: Annotated[
        float,
        Field(ge=0, le=1, description="Above this fraction of rejected lines the job ends with exit code 2."),
    ] = 0.001

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        if self.format not in ("events", "table") and not self.splits:
            raise ValueError(f"format is {self.format}, but no files are named: set logs.splits")
        if self.format == "events" and self.events is None:
            raise ValueError("format is events, but no logs are named: set logs.events")
        if self.format == "table" and self.table is None:
            raise ValueError("format is table, but none is named: set logs.table")
        return self


class Samples(Section):
    """How impressions become examples."""

    max_group_size: Annotated[int, Field(ge=1, description="A group of more impressions is split.")] = 256
    validation_fraction: Annotated[
        float, Field(ge=0, lt=1, description="Share of the train split's contexts set aside for validation.")
    ] = 0.05
    seed: Annotated[int, Field(description="Seed of the validation split.")] = 42
    num_files: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="Parquet files per partition; by default as many as the input's size asks for.",
        ),
    ] = None
    row_group_mb: Annotated[
        float, Field(gt=0, le=1024, description="Size of a Parquet row group in memory, in MiB.")
    ] = 4
    carry: Annotated[
        dict[str, CarriedKind],
        Field(
            description="Columns that go as they are from the log to examples and scores: "
            "`{price: float, segment: string}`. `float` is a double, `int` a bigint; null where missing."
        ),
    ] = {}
    unknown_labels: Annotated[
        Literal["reject", "keep"],
        Field(
            description="An impression whose label of a task isn't known: `reject` it as `bad_label`, or "
            "`keep` it: it trains the tasks whose labels are known."
        ),
    ] = "reject"
    frozen_from: Annotated[
        InputPath | None,
        Field(
            description="A dataset whose boundaries, means, scales and frequent values are used as they are. "
            "By default a dataset's are fitted and counted on its own training split; event logs have none, "
            "and `--fit` of jobs/preprocess.py writes this one."
        ),
    ] = None
    compression: Annotated[
        Compression,
        Field(
            description="Of the examples' Parquet files: speed against size. `lz4` is faster to read; files "
            "of `zstd` are 0.7 times as large in Ali-CCP's shape, for storage that is remote."
        ),
    ] = "lz4"
