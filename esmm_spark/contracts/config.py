"""The config of all commands: one section per stage, unknown keys forbidden. config_file.py reads it.

A relative path in a config is relative to the folder in which the command runs.
"""

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.field_spec import require_kinds
from esmm_spark.contracts.funnel import Funnel
from esmm_spark.contracts.impressions import ImpressionColumns, numbers
from esmm_spark.contracts.losses import Term
from esmm_spark.contracts.objective import LISTED, Objective, resolve
from esmm_spark.contracts.sample_config import Logs, Paths, Samples, SplitLogs
from esmm_spark.contracts.schemas.layout import TEST_PARTITION, TRAIN_PARTITION
from esmm_spark.contracts.schemas.requirements import Bound, Bounds, bounds_of
from esmm_spark.contracts.section import InputPath, Section, require_no_secrets
from esmm_spark.contracts.tables.table_config import require_sources
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks, problem_of_name
from esmm_spark.contracts.train_config import Model, Train

# A partition of the dataset, or a range of days; selection.py reads it.
SELECTION_PATTERN = (
    r"^([A-Za-z0-9_]+=[^/]+|ds in \[\d{4}-\d{2}-\d{2}, ?\d{4}-\d{2}-\d{2}\]|ds > \d{4}-\d{2}-\d{2})$"
)


class Data(Section):
    """Which partitions of the dataset are trained on."""

    train: Annotated[
        str,
        Field(
            pattern=SELECTION_PATTERN,
            description="A partition, or a range of days: `ds in [2026-11-01, 2026-11-20]`.",
        ),
    ] = TRAIN_PARTITION
    validation: Annotated[
        str | None,
        Field(
            pattern=SELECTION_PATTERN,
            description="The same for validation; by default `split=validation`, or all later days.",
        ),
    ] = None


class Score(Section):
    """Offline scoring."""

    partition: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_]+=[^/]+$", description="The partition to score, e.g. `split=test`.")
    ] = TEST_PARTITION
    source: Annotated[
        Literal["examples", "raw"],
        Field(
            description="`examples`: the dataset's Parquet; `raw`: those of `score.raw`, labels not needed."
        ),
    ] = "examples"
    raw: Annotated[SplitLogs | None, Field(description="The raw files to score where `source` is `raw`.")] = (
        None
    )
    table: Annotated[
        InputPath | None,
        Field(description="The same of `logs.format: table`: file or folder, read as `logs.table` says."),
    ] = None
    batch_size: Annotated[
        int, Field(ge=1, description="Impressions that go through the model at a time, at most.")
    ] = 2048
    num_files: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="Parquet files of the partition, and tasks that score it, at most one per row group; "
            "by default one per million impressions and at least two per core.",
        ),
    ] = None

    @model_validator(mode="after")
    def _check_raw(self) -> Self:
        if self.source == "raw" and self.raw is None and self.table is None:
            raise ValueError(
                "source is raw, but no files are named: set score.raw.skeleton and "
                "score.raw.common_features, or score.table where logs.format is table"
            )
        return self


class Evaluate(Section):
    """Evaluation."""

    partition: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_]+=[^/]+$", description="The scored partition to evaluate.")
    ] = TEST_PARTITION
    truth: Annotated[
        InputPath | None,
        Field(description="The simulator's truth.parquet, to judge them over the entire space."),
    ] = None
    baseline_scores: Annotated[
        InputPath | None,
        Field(description="Scores of another model on the same impressions (e.g. BASE), shown beside."),
    ] = None
    baseline_name: Annotated[
        str, Field(min_length=1, max_length=30, description="What the report calls the baseline.")
    ] = "BASE"
    bootstrap_samples: Annotated[
        int, Field(ge=0, le=10000, description="Resamples of the groups; 0: no intervals.")
    ] = 200
    seed: Annotated[int, Field(description="Seed of the bootstrap.")] = 42
    calibration_bins: Annotated[int, Field(ge=2, le=1000, description="Bins of the calibration curves.")] = 20
    require: Annotated[
        dict[str, Bound],
        Field(
            description="Metric of `metrics.json` -> the worst that is good enough, or a range of two. Where "
            "one isn't met, the report is written and the exit code 3. docs/operations.md has examples."
        ),
    ] = {}


class Config(Section):
    """All sections."""

    paths: Paths
    logs: Logs
    features: FeatureSpec
    tasks: Tasks = DEFAULT_TASKS
    samples: Samples = Samples()
    data: Data = Data()
    model: Model = Model()
    losses: Annotated[
        list[Term], Field(description="The terms of the loss, instead of a preset's of `model.objective`.")
    ] = []
    train: Train = Train()
    score: Score = Score()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="before")
    @classmethod
    def _check_secrets(cls, content: Any) -> Any:
        # Of every key: a config is stored with datasets and models, and shown in messages.
        require_no_secrets(content)
        return content

    @property
    def digest(self) -> str:
        """16 hex digits that change when any key does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def brought(self) -> ImpressionColumns:
        """The labels and carried columns of an impression."""
        return ImpressionColumns(self.tasks, self.samples.carry)

    @model_validator(mode="after")
    def _check_brought(self) -> Self:
        for name in self.samples.carry:
            if name in self.tasks.root or (problem := problem_of_name(name)):
                problem = "is a task, too" if name in self.tasks.root else problem
                raise ValueError(
                    f"samples.carry {name!r} {problem}: it is a column of the examples, rename it"
                )
        if self.logs.format not in ("events", "table"):
            if self.tasks != DEFAULT_TASKS:
                raise ValueError(
                    f"tasks are {self.tasks.described()}, but logs.format {self.logs.format} brings "
                    f"{DEFAULT_TASKS.described()}, and nothing else"
                )
            if self.samples.carry:
                raise ValueError(
                    f"samples.carry names {', '.join(self.samples.carry)}, but logs.format "
                    f"{self.logs.format} has no columns beside its features"
                )
        return self

    @model_validator(mode="after")
    def _check_kinds(self) -> Self:
        require_kinds(self.features.fields, self.logs.format, self.samples.frozen_from is not None)
        return self

    @model_validator(mode="before")
    @classmethod
    def _name_listed_terms(cls, content: Any) -> Any:
        # A list of terms is itself the objective: a config that has one need not say so.
        if isinstance(content, dict) and content.get("losses"):
            model = content.get("model") or {}
            if isinstance(model, dict):
                return {**content, "model": {"objective": LISTED, **model}}
        return content

    @model_validator(mode="after")
    def _check_objective(self) -> Self:
        for column in self.objective.columns:
            kind = self.samples.carry.get(column)
            if kind not in ("float", "int"):
                found = f"is of {kind}" if kind else "is not carried"
                raise ValueError(
                    f"losses has a term that reads the column {column}, which {found}: add "
                    f"{column}: float to samples.carry"
                )
        return self

    @property
    def required(self) -> dict[str, Bounds]:
        """Metric -> what `evaluate.require` says that it must be."""
        return bounds_of(self.evaluate.require, self.tasks, self.evaluate.truth is not None)

    @model_validator(mode="after")
    def _check_required(self) -> Self:
        assert self.required is not None
        return self

    @model_validator(mode="after")
    def _check_best_metric(self) -> Self:
        known = [f"{name}_auc" for name in self.tasks.series]
        if self.best_metric not in known:
            raise ValueError(f"train.best_metric = {self.best_metric!r}: allowed are {', '.join(known)}")
        return self

    @property
    def best_metric(self) -> str:
        """The validation metric that says which epoch is best."""
        return self.train.best_metric or f"{list(self.tasks.series)[-1]}_auc"

    @property
    def objective(self) -> Objective:
        """What is trained: tasks, terms, heads."""
        return resolve(self.model, self.losses, self.tasks)

    @property
    def funnel(self) -> Funnel:
        """The logs of events, linked; only where there are any."""
        assert self.logs.events is not None
        return Funnel(self.logs.events, self.tasks)

    @property
    def trained(self) -> ImpressionColumns:
        """What training reads of an impression: all labels, and the carried columns that the loss reads.

        A loss of one's own gets all that are numbers.
        """
        carried = numbers(self.samples.carry)
        if self.objective.terms:
            carried = {name: kind for name, kind in carried.items() if name in self.objective.columns}
        return ImpressionColumns(self.tasks, carried)

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        if self.logs.table is not None and self.logs.format == "table":
            fields = [field.name for field in self.features.fields]
            require_sources(self.logs.table, fields, self.samples.carry, self.tasks)
        scored = {"table": "table", "events": None}.get(self.logs.format, "raw")
        for name in ("raw", "table"):
            if name != scored and getattr(self.score, name) is not None:
                raise ValueError(
                    f"score.{name} has no effect where logs.format is {self.logs.format}: leave it out"
                    + (f", or set score.{scored}" if scored else "")
                )
        return self

    @model_validator(mode="after")
    def _check_events(self) -> Self:
        if self.logs.events is None:
            return self
        assert self.funnel
        nowhere = [f.name for f in self.features.fields if f.name not in self.logs.events.attributes]
        if nowhere:
            raise ValueError(
                f"features.fields {', '.join(nowhere)} come from nowhere: name them in features of "
                "the impressions or a catalog, in history or in crosses, all in logs.events"
            )
        uncarried = [name for name in self.samples.carry if name not in self.logs.events.attributes]
        if uncarried:
            raise ValueError(
                f"samples.carry {', '.join(uncarried)} come from nowhere: name them in features of the "
                "impressions or a catalog in logs.events"
            )
        crosses = {cross.field for cross in self.logs.events.crosses}
        misplaced = [f.name for f in self.features.fields if f.name in crosses and f.level == "context"]
        if misplaced:
            raise ValueError(
                f"features.fields {', '.join(misplaced)} are crosses with level: context, but a cross is of "
                "a history and an impression: set level: impression"
            )
        unpooled = {field.name for field in self.features.sequence_fields}
        decaying = [item.field for item in self.logs.events.history if item.half_life_days]
        for name in sorted(unpooled & {*decaying}):
            raise ValueError(
                f"history {name} has half_life_days, which weigh counts, but its field has pooling: none: "
                "its values come one by one, drop half_life_days"
            )
        for cross in self.logs.events.crosses:
            if cross.history in unpooled:
                raise ValueError(
                    f"cross {cross.field} is of the history {cross.history}, whose field has pooling: none "
                    "and so no counts: cross with a pooled history"
                )
        return self
