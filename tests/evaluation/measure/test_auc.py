"""AUCs that Spark sorted for, against sklearn and a plain bootstrap."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from sklearn.metrics import roc_auc_score

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.evaluation.measure import auc
from esmm_spark.evaluation.measure.alignment import AlignedScores, align
from esmm_spark.evaluation.measure.estimates import difference
from esmm_spark.evaluation.measure.ranking import auc_estimate
from esmm_spark.evaluation.measure.targets import LabelCounts, rankings_of
from esmm_spark.evaluation.measure.weights import poisson_weights
from tests.evaluation.scored_data import ToFrame

pytestmark = pytest.mark.spark
SAMPLES, SEED = 12, 7


@pytest.fixture(scope="module")
def aligned(data: pd.DataFrame, scores_frame: ToFrame, truth_frame: ToFrame) -> Iterator[AlignedScores]:
    worse = {name: data[f"b_{name}"] for name in ("pctr", "pcvr", "pctcvr")}
    truth = data.assign(pctr=data.true_pctr, pcvr=data.true_pcvr)
    result = align(scores_frame(data), len(data), scores_frame(data.assign(**worse)), truth_frame(truth))
    yield result
    result.impressions.unpersist()


@pytest.fixture(scope="module")
def table(aligned: AlignedScores) -> pd.DataFrame:
    return aligned.impressions.toPandas()


def labels_of(table: pd.DataFrame, target: str) -> pd.Series:
    """Returns the target's labels, NaN where an impression doesn't count."""
    return {
        "ctr": table.click,
        "ctcvr": table.conversion,
        "cvr_clicks": table.conversion.where(table.click == 1),
        "cvr_entire_space": table.conversion_if_clicked,
    }[target]


def test_every_auc_and_every_replicate_equals_sklearn(aligned: AlignedScores, table: pd.DataFrame) -> None:
    rankings = rankings_of(aligned.series, has_truth=True)
    totals = auc.rank(aligned.impressions, rankings, dict(aligned.labels), SAMPLES, SEED)
    assert len(rankings) == len(totals) == 12
    weights = poisson_weights(table.group_hash.to_numpy(), SAMPLES, SEED)
    for ranking in rankings:
        labels = labels_of(table, ranking.target.name)
        known = labels.notna()
        estimate = auc_estimate(totals[ranking])
        assert estimate.value == pytest.approx(
            roc_auc_score(labels[known], table[known][ranking.score]), abs=1e-12
        )
        for sample in range(SAMPLES):
            expected = roc_auc_score(
                labels[known], table[known][ranking.score], sample_weight=weights[known, sample]
            )
            assert estimate.replicates[sample] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("block_cells", [64, 1 << 23])
@pytest.mark.parametrize("partitions", [1, 3, 7])
def test_partitioning_and_blocks_change_nothing(
    spark: SparkSession,
    aligned: AlignedScores,
    monkeypatch: pytest.MonkeyPatch,
    partitions: int,
    block_cells: int,
) -> None:
    rankings = rankings_of(("model",), has_truth=True)
    expected = auc.rank(aligned.impressions, rankings, dict(aligned.labels), SAMPLES, SEED)
    monkeypatch.setattr(auc, "_BLOCK_CELLS", block_cells)
    keys = ("spark.sql.shuffle.partitions", "spark.sql.adaptive.enabled")
    before = {key: str(spark.conf.get(key)) for key in keys}
    spark.conf.set("spark.sql.shuffle.partitions", str(partitions))
    spark.conf.set("spark.sql.adaptive.enabled", "false")
    try:
        found = auc.rank(aligned.impressions.repartition(5), rankings, dict(aligned.labels), SAMPLES, SEED)
    finally:
        for key, value in before.items():
            spark.conf.set(key, value)
    for ranking in rankings:
        first, second = auc_estimate(expected[ranking]), auc_estimate(found[ranking])
        assert first.value == second.value
        np.testing.assert_array_equal(first.replicates, second.replicates)


def test_the_difference_to_a_baseline_is_paired(aligned: AlignedScores) -> None:
    rankings = rankings_of(("model", "baseline"), has_truth=False)
    totals = auc.rank(aligned.impressions, rankings, dict(aligned.labels), 100, SEED)
    model, baseline = (auc_estimate(totals[ranking]) for ranking in (rankings[0], rankings[3]))
    paired = difference(model, baseline)
    assert model.value is not None
    assert baseline.value is not None
    assert paired.interval is not None
    assert paired.value == model.value - baseline.value
    low, high = paired.interval
    assert low < paired.value < high
    # Resampled together, the two AUCs rise and fall together.
    shuffled = model.replicates - baseline.replicates[::-1]
    assert high - low < np.subtract(*np.quantile(shuffled, [0.975, 0.025]))


def test_without_samples_there_is_a_value_and_no_interval(aligned: AlignedScores) -> None:
    rankings = rankings_of(("model",), has_truth=False)
    estimate = auc_estimate(
        auc.rank(aligned.impressions, rankings, dict(aligned.labels), 0, SEED)[rankings[0]]
    )
    assert estimate.value is not None
    assert 0.5 < estimate.value < 1
    assert estimate.interval is None


def test_a_target_without_labels_is_left_out(aligned: AlignedScores) -> None:
    rankings = rankings_of(("model",), has_truth=False)
    labels = {**dict(aligned.labels), "ctr": LabelCounts(0, 0)}
    assert rankings[0] not in auc.rank(aligned.impressions, rankings, labels, 2, SEED)
    nothing = {name: LabelCounts(0, 0) for name in aligned.labels}
    assert auc.rank(aligned.impressions, rankings, nothing, 2, SEED) == {}


def test_an_impression_that_is_not_ranked_is_noticed(aligned: AlignedScores) -> None:
    rankings = rankings_of(("model",), has_truth=False)
    one_less = aligned.impressions.filter("impression_id != 'i0'")
    with pytest.raises(
        CountMismatchError, match=r"model_ctr: \d+ impressions with \d+ positives were ranked"
    ):
        auc.rank(one_less, rankings, dict(aligned.labels), 2, SEED)
