"""The record of a command's run, which it writes beside its output: `run.json`, or `runs/` of a partition.

    <paths.dataset>.run.json              preprocess; of a day <paths.dataset>.runs/ds=2026-11-23.json
    <paths.model>.run.json                train
    <paths.scores>.runs/split=test.json   score
    <paths.report>.run.json               evaluate
    <--output>.run.json                   simulate

The record of a failed run stands there, too, beside what was there before it. docs/operations.md has the
keys.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


def record_uri(root: str, partition: str | None) -> str:
    """Returns where the record of a run goes that writes `root`, or a partition of it: never into it."""
    return f"{root}.run.json" if partition is None else f"{runs_folder(root)}/{partition}.json"


def runs_folder(root: str) -> str:
    """Returns the folder of the records of all partitions of `root`."""
    return f"{root}.runs"


class StageRecord(BaseModel):
    """A named step of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    seconds: float


class RunRecord(BaseModel):
    """What one run of a command was, took, and came to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int = 1
    command: Annotated[
        str,
        Field(description="The script: `simulate`, `profile`, `preprocess`, `train`, `score`, `evaluate`."),
    ]
    arguments: Annotated[list[str], Field(description="As given, without credentials in URIs.")]
    config_digest: Annotated[
        str | None,
        Field(description="16 hex digits of the whole config, overrides applied; null without one."),
    ]
    output: Annotated[str, Field(description="What the run writes: a folder.")]
    partition: Annotated[
        str | None, Field(description="The partition of it, as `split=test`; null where it writes all of it.")
    ]
    versions: Annotated[
        dict[str, str | None],
        Field(description="Of esmm_spark, python and the libraries; null where one isn't installed."),
    ]
    host: Annotated[str, Field(description="Of the driver; of a training, of its first rank.")]
    started_at: Annotated[str, Field(description="UTC, as `2026-11-24T06:00:00Z`.")]
    ended_at: Annotated[str, Field(description="The same.")]
    seconds: Annotated[float, Field(description="From one to the other, by a clock that is never set.")]
    stages: Annotated[
        list[StageRecord],
        Field(description="Named steps in the order in which they began; of one that came again, the sum."),
    ]
    rows_in: Annotated[
        int | None,
        Field(
            description="preprocess: lines read; train: impressions of an epoch; score: impressions and "
            "rejected lines; evaluate: scored impressions. Null where the run didn't come so far."
        ),
    ]
    rows_out: Annotated[
        int | None, Field(description="simulate, preprocess, score: impressions written; else null.")
    ]
    rejects: Annotated[dict[str, int], Field(description="Reason -> rejected lines.")]
    bytes_out: Annotated[
        int | None,
        Field(description="Of all files of the output, or of its partition; null of a failed run."),
    ]
    peak_memory_bytes: Annotated[
        int,
        Field(
            description="Of the driver with Spark's processes on its host, shared pages counted once, looked "
            "at each second; of a training, of its first rank."
        ),
    ]
    exit_code: int
    error: Annotated[str | None, Field(description="The line on stderr that a failed run ended with.")]
