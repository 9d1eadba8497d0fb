"""All metrics, differences and curves of scored impressions; what leaves Spark is small, whatever goes in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Evaluate
from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.contracts.schemas.targets import MetricKind, Target, targets_of
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.evaluation.kernels.sweep import Swept
from esmm_spark.evaluation.measure.checks import NoteCounts, check
from esmm_spark.evaluation.measure.curves import (
    CalibrationBin,
    Histogram,
    calibration_curve,
    grid_of,
    histogram,
)
from esmm_spark.evaluation.measure.estimates import Estimate, difference, ratio
from esmm_spark.evaluation.measure.inputs import Source
from esmm_spark.evaluation.measure.layout import Job
from esmm_spark.evaluation.measure.metrics import METRICS, Metric
from esmm_spark.evaluation.measure.plan import num_parts
from esmm_spark.evaluation.measure.ranking import auc_estimate, join_parts, roc_curve
from esmm_spark.evaluation.measure.running import Results, run_job
from esmm_spark.evaluation.measure.sampling import sampled_splitters
from esmm_spark.evaluation.measure.summing import NUM_GROUPS, Vector, swept_of
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE, LabelCounts, Ranking, scans_of
from esmm_spark.runtime.arrays import Float64s


@dataclass(frozen=True)
class Curves:
    """The curves of one ranking.

    Args:
        roc: false and true positive rates, `[K]` each; empty with one class only.
        calibration: by ascending score.
        histogram: by ascending score.
    """

    roc: tuple[NDArray[np.float64], NDArray[np.float64]]
    calibration: list[CalibrationBin]
    histogram: Histogram


@dataclass(frozen=True)
class Measurements:
    """Everything that was measured.

    Args:
        series: `model`, and `baseline` and `oracle` where given.
        targets: those that the inputs allow.
        num_impressions: impressions scored.
        num_unlabelled: impressions without a click label.
        num_groups: impression groups, by their key.
        labels: target name -> impressions with a label, and positives.
        estimates: (series, metric's key) -> estimate.
        differences: metric's key -> model - baseline, paired by resample; empty without a baseline.
        curves: ranking -> curves; without the rankings that have no labelled impression.
        versions: series -> the model version that made its scores.
    """

    series: tuple[str, ...]
    targets: tuple[Target, ...]
    num_impressions: int
    num_unlabelled: int
    num_groups: int
    labels: Mapping[str, LabelCounts]
    estimates: Mapping[tuple[str, str], Estimate]
    differences: Mapping[str, Estimate]
    curves: Mapping[Ranking, Curves]
    versions: Mapping[str, str] = field(default_factory=dict)

    def estimate(self, series: str, target: Target, kind: MetricKind) -> Estimate:
        """Returns one metric of one series."""
        return self.estimates[series, target.metric(kind)]


def measure(
    spark: SparkSession, config: Evaluate, tasks: Tasks, sources: Mapping[str, Source]
) -> Measurements:
    """Returns all metrics of all series.

    Args:
        spark: the session.
        config: bootstrap samples of the groups, 0 for no intervals; seed; calibration bins.
        tasks: what labels and scores are of.
        sources: series -> its files: `model`, and `baseline` and `oracle` where given.

    Raises:
        InputError: a file is damaged, or the sides are not of the same impressions.
        CountMismatchError: an impression got lost on the way.
    """
    job = plan_job(config, tasks, sources)
    return measurements_of(run_job(spark, sources, job), sources, job, config.calibration_bins)


def plan_job(config: Evaluate, tasks: Tasks, sources: Mapping[str, Source]) -> Job:
    """Returns what all tasks of an evaluation know; arguments as of `measure`."""
    targets = tuple(t for t in targets_of(tasks) if ORACLE in sources or not t.needs_truth)
    scans = scans_of(tuple(sources), targets)
    return Job(
        tasks=tasks,
        targets=targets,
        series=tuple(sources),
        scans=scans,
        id_parts=num_parts(sum(source.num_impressions for source in sources.values())),
        splitters=sampled_splitters(sources, scans, tasks),
        group_parts=num_parts(sources[MODEL].num_impressions),
        num_samples=config.bootstrap_samples,
        seed=config.seed,
    )


def measurements_of(
    found: Results, sources: Mapping[str, Source], job: Job, calibration_bins: int
) -> Measurements:
    """Returns the metrics of what the tasks have found; arguments and errors as of `measure`."""
    targets = job.targets
    counts = NoteCounts(found.notes)
    versions = check(counts, sources)
    labels = {
        target.name: LabelCounts(
            counts.aligned[f"labelled_{target.name}"], counts.aligned[f"positives_{target.name}"]
        )
        for target in targets
    }
    ranked, sums = _joined(found.vectors)
    _check_ranked(job, ranked, labels)
    estimates = {
        (series, target.metric(kind)): _estimate(
            Ranking(series, target), METRICS[kind], (ranked, sums), labels[target.name], job.num_samples
        )
        for series in job.series
        for target in targets
        for kind in target.kinds
    }
    rankings = [Ranking(series, target) for series in job.series for target in targets]
    return Measurements(
        series=job.series,
        targets=targets,
        num_impressions=counts.aligned["impressions"],
        num_unlabelled=counts.aligned["unlabelled"],
        num_groups=round(sums[NUM_GROUPS][0]),
        labels=labels,
        estimates=estimates,
        differences=_differences(estimates) if BASELINE in job.series else {},
        curves={
            ranking: _curves(ranked[ranking.name], calibration_bins)
            for ranking in rankings
            if ranking.name in ranked
        },
        versions=versions,
    )


def _joined(vectors: Sequence[Vector]) -> tuple[dict[str, Swept], dict[str, Float64s]]:
    """Returns ranking's name -> the sums over all its parts, and the groups' sums by their key."""
    parts: dict[tuple[str, int], dict[str, Float64s]] = {}
    sums: dict[str, Float64s] = {}
    for vector in vectors:
        name, _, field = vector.key.rpartition("/")
        if field in Swept._fields:
            parts.setdefault((name, vector.part), {})[field] = vector.values
        else:
            before = sums.get(vector.key)
            sums[vector.key] = vector.values if before is None else before + vector.values
    by_name: dict[str, list[Swept]] = {}
    for (name, _), fields in parts.items():
        by_name.setdefault(name, []).append(swept_of(fields))
    return {name: join_parts(found) for name, found in by_name.items()}, sums


def _estimate(
    ranking: Ranking,
    metric: Metric,
    found: tuple[Mapping[str, Swept], Mapping[str, Float64s]],
    labels: LabelCounts,
    num_samples: int,
) -> Estimate:
    ranked, sums = found
    counts = {"impressions": labels.impressions, "positives": labels.positives}
    if metric.numerator is None:
        if ranking.name in ranked:
            return auc_estimate(ranked[ranking.name], num_samples)
        return Estimate(None, np.full(num_samples, np.nan), "no labelled impression", counts)
    if metric.counts:
        counts = {title: round(sums[f"{ranking.name}/{name}"][0]) for title, name in metric.counts}
    above, below = (sums[f"{ranking.name}/{name}"] for name in (metric.numerator, metric.denominator))
    return ratio(above, below, metric.if_undefined, counts)


def _curves(total: Swept, calibration_bins: int) -> Curves:
    grid = grid_of(total.cells)
    return Curves(roc_curve(total), calibration_curve(grid, calibration_bins), histogram(grid))


def _check_ranked(job: Job, ranked: Mapping[str, Swept], labels: Mapping[str, LabelCounts]) -> None:
    for scan in job.scans:
        for target in scan.targets:
            name, expected = Ranking(scan.series, target).name, labels[target.name]
            positives = round(ranked[name].positives[0]) if name in ranked else 0
            impressions = positives + (round(ranked[name].negatives[0]) if name in ranked else 0)
            if (impressions, positives) != (expected.impressions, expected.positives):
                raise CountMismatchError(
                    f"{name}: {impressions} impressions with {positives} positives were ranked, "
                    f"{expected.impressions} with {expected.positives} were read"
                )


def _differences(estimates: Mapping[tuple[str, str], Estimate]) -> dict[str, Estimate]:
    return {
        metric: difference(estimate, estimates[BASELINE, metric])
        for (series, metric), estimate in estimates.items()
        if series == MODEL
    }
