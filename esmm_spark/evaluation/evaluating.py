"""Runs an evaluation from its config, and publishes metrics.json and report.html together."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.schemas.layout import METRICS_NAME, REPORT_NAME
from esmm_spark.evaluation.measure.inputs import (
    Source,
    baseline_folder,
    find_scores,
    find_truth,
    require_other_scores,
)
from esmm_spark.evaluation.measure.measurement import Measurements, measure
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE
from esmm_spark.evaluation.report.history import read_history, read_objective
from esmm_spark.evaluation.report.report import report_html
from esmm_spark.evaluation.report.sections.join import read_days
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.evaluation.report.summary import metrics_json
from esmm_spark.files import storage
from esmm_spark.files.replacing import replacing
from esmm_spark.spark.failures import user_errors
from esmm_spark.spark.steps import step


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation: its subject, all measurements, and where the report lies."""

    subject: Subject
    measured: Measurements
    report: str


def evaluate(spark: SparkSession, config: Config) -> Evaluation:
    """Evaluates `evaluate.partition` and writes metrics.json and report.html to `paths.report`.

    Raises:
        InputError: scores, baseline or truth missing, corrupt, or not of the same impressions; something else
            lies in `paths.report`.
        TargetBusyError: another run writes the report.
        IncompleteError: scores that are half-written.
        CountMismatchError: an impression got lost on the way.
    """
    report, files = config.paths.report, (METRICS_NAME, REPORT_NAME)
    with (
        replacing(report, "paths.report", files) as new,
        user_errors(spark, "write it again", f"paths.report {report}"),
    ):
        subject, measured, html = _evaluate(spark, config)
        new.files = files
        storage.write_text(storage.join(new.folder, METRICS_NAME), metrics_json(subject, measured))
        storage.write_text(storage.join(new.folder, REPORT_NAME), html)
    return Evaluation(subject, measured, storage.join(report, REPORT_NAME))


def _evaluate(spark: SparkSession, config: Config) -> tuple[Subject, Measurements, str]:
    """Returns what was evaluated, the numbers, and the report's HTML."""
    with step(spark, "look at the scores' files"):
        sources = _sources(config)
    with step(spark, "evaluate"):
        measured = measure(spark, config.evaluate, config.tasks, sources)
    with step(spark, "draw the report"):
        subject = _subject(config, sources, measured.versions)
        return subject, measured, report_html(subject, measured)


def _sources(config: Config) -> dict[str, Source]:
    section, tasks = config.evaluate, config.tasks
    sources = {MODEL: find_scores(storage.join(config.paths.scores, section.partition), tasks)}
    if section.baseline_scores is not None:
        folder = baseline_folder(section.baseline_scores, section.partition)
        require_other_scores(folder, sources[MODEL].uri)
        sources[BASELINE] = find_scores(folder, tasks)
    if section.truth is not None:
        sources[ORACLE] = find_truth(section.truth, tasks)
    return sources


def _subject(config: Config, sources: Mapping[str, Source], versions: Mapping[str, str]) -> Subject:
    models, version = config.paths.model, versions[MODEL]
    history, note = read_history(models, version)
    name = (read_objective(models, version) or config.model.objective).upper()
    baseline_name = config.evaluate.baseline_name
    if BASELINE in sources and baseline_name == name:
        name, baseline_name = f"{name} {version}", f"{baseline_name} {versions[BASELINE]}"
    return Subject(
        partition=config.evaluate.partition,
        dataset=config.paths.dataset,
        scores=sources[MODEL].uri,
        model_version=version,
        names={MODEL: name, BASELINE: baseline_name, ORACLE: "oracle"},
        baseline_scores=sources[BASELINE].uri if BASELINE in sources else None,
        baseline_version=versions.get(BASELINE),
        truth=config.evaluate.truth,
        num_samples=config.evaluate.bootstrap_samples,
        seed=config.evaluate.seed,
        history=history,
        history_note=note,
        days=read_days(config.paths.dataset),
        tasks=config.tasks,
        required=config.required,
    )
