"""The section on methods and inputs."""

from esmm_spark.evaluation.measure.estimates import LEVEL
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.metrics import LOG_LOSS_EPSILON
from esmm_spark.evaluation.measure.targets import BASELINE
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.pages.page import PageSection


def section(subject: Subject, measured: Measurements) -> PageSection:
    """Returns what was computed in which way, and where its inputs lie."""
    texts = [
        "AUCs are exact: Spark sorts all impressions of a target by score, ties count one half, nothing is "
        "binned or sampled. Calibration curves and histograms keep exact counts and sums in cells of scores."
    ]
    if subject.num_samples:
        texts.append(
            f"Intervals are {LEVEL:.0%} percentile intervals over {subject.num_samples} Poisson resamples of "
            "whole contexts, since impressions of one context are alike. Series are compared on the same "
            "resamples. They show what other traffic would change, not what another training seed would."
        )
    texts.append(
        f"For the log loss, scores are kept {LOG_LOSS_EPSILON:.1e} away from 0 and 1. GAUC is over contexts "
        "with both labels."
    )
    facts = {"Partition": subject.partition, "Dataset": subject.dataset, "Scores": subject.scores}
    facts["Model version"] = subject.model_version
    if subject.baseline_scores is not None:
        facts[f"{subject.names[BASELINE]}'s scores"] = subject.baseline_scores
        facts[f"{subject.names[BASELINE]}'s model version"] = str(subject.baseline_version)
    facts["Truth"] = subject.truth or "none"
    facts["Bootstrap"] = f"{subject.num_samples} resamples, seed {subject.seed}"
    facts["Training curves"] = subject.history_note
    for target in measured.targets:
        counts = measured.labels[target.name]
        facts[target.title] = (
            f"{counts.impressions:,} impressions with a label, {counts.positives:,} positive"
        )
    return PageSection("How this was measured", "method.html", {"texts": texts, "facts": facts})
