"""The config of where raw files lie and where each stage writes."""

from typing import Annotated

from pydantic import Field

from esmm_spark.contracts.section import InputGlob, OutputPath, Section


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
