"""Every impression exactly once, or an error that says how many are not."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame

from esmm_spark.contracts.errors import CountMismatchError, InputError
from esmm_spark.evaluation.measure.alignment import AlignedScores, align
from esmm_spark.evaluation.measure.targets import LabelCounts
from tests.evaluation.scored_data import ToFrame

pytestmark = pytest.mark.spark


def rows(**columns: list[object]) -> pd.DataFrame:
    """Returns three scored impressions in two groups; `columns` replace theirs."""
    base = {
        "impression_id": ["a", "b", "c"],
        "group_key": ["g", "g", "h"],
        "pctr": [0.5, 0.25, 0.125],
        "pcvr": [0.5, 0.5, 0.5],
        "pctcvr": [0.25, 0.125, 0.0625],
        "model_version": ["v", "v", "v"],
        "click": [1, 0, 1],
        "conversion": [1, 0, 0],
    }
    return pd.DataFrame({**base, **columns}).astype({"click": object, "conversion": object})


TRUTH = pd.DataFrame(
    {
        "impression_id": ["c", "a", "b", "of another split"],
        "pctr": [0.1, 0.2, 0.3, 0.4],
        "pcvr": [0.5, 0.6, 0.7, 0.8],
        "conversion_if_clicked": [0, 1, 1, 1],
    }
)


Align = Callable[..., AlignedScores]


@pytest.fixture
def aligned(scores_frame: ToFrame, truth_frame: ToFrame) -> Iterator[Align]:
    """Aligns pandas frames; unpersists what it cached."""
    made: list[AlignedScores] = []

    def make(
        scores: pd.DataFrame,
        baseline: pd.DataFrame | None = None,
        truth: pd.DataFrame | None = None,
        num_rows: int | None = None,
    ) -> AlignedScores:
        result = align(
            scores_frame(scores),
            len(scores) if num_rows is None else num_rows,
            None if baseline is None else scores_frame(baseline),
            None if truth is None else truth_frame(truth),
        )
        made.append(result)
        return result

    yield make
    for result in made:
        result.impressions.unpersist()


def by_id(frame: DataFrame) -> pd.DataFrame:
    table: pd.DataFrame = frame.toPandas()
    return table.set_index("impression_id").sort_index()


def test_all_sides_meet_on_the_impression(aligned: Align) -> None:
    baseline = rows(pctr=[0.75, 0.5, 0.25])
    result = aligned(rows(), baseline.iloc[::-1], TRUTH)
    table = by_id(result.impressions)
    assert table.index.tolist() == ["a", "b", "c"]
    assert table.model_pctr.tolist() == [0.5, 0.25, 0.125]
    assert table.baseline_pctr.tolist() == [0.75, 0.5, 0.25]
    assert table.oracle_pctcvr.tolist() == pytest.approx([0.12, 0.21, 0.05])
    assert table.conversion_if_clicked.tolist() == [1, 1, 0]
    assert table.group_hash["a"] == table.group_hash["b"] != table.group_hash["c"]
    assert result.series == ("model", "baseline", "oracle")
    assert result.has_truth
    assert (result.num_impressions, result.num_unlabelled) == (3, 0)
    assert result.labels == {
        "ctr": LabelCounts(3, 2),
        "cvr_clicks": LabelCounts(2, 1),
        "ctcvr": LabelCounts(3, 1),
        "cvr_entire_space": LabelCounts(3, 2),
    }


def test_unknown_labels_are_counted_and_left_out_of_their_targets(aligned: Align) -> None:
    # b was not clicked, so it did not convert; a's conversion may still come; c is not labelled at all.
    result = aligned(rows(click=[1, 0, None], conversion=[None, None, None]))
    assert result.num_unlabelled == 1
    assert result.labels == {
        "ctr": LabelCounts(2, 1),
        "cvr_clicks": LabelCounts(0, 0),
        "ctcvr": LabelCounts(1, 0),
    }


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            rows(impression_id=["a", "a", "c"]),
            r"1 impression ids come more than once in the scores \(2 rows\)",
        ),
        (rows(impression_id=["a", None, "c"]), "1 scores lack an impression_id, 0 a group_key"),
        (rows(group_key=["g", None, None]), "0 scores lack an impression_id, 2 a group_key"),
        (
            rows(pctr=[0.5, np.nan, 1.5]),
            r"2 impressions have a score outside \[0, 1\], NaN or null in the scores",
        ),
        (rows(pcvr=[0.5, None, -0.1]), r"2 impressions have a score outside \[0, 1\]"),
        (rows(click=[2, 0, 1]), "1 impressions have impossible labels in the scores"),
        (rows(click=[0, 0, 1]), "1 impressions have impossible labels"),
        (rows(click=[None, 0, 1]), "1 impressions have impossible labels"),
    ],
)
def test_bad_scores_are_counted_in_the_error(aligned: Align, scores: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        aligned(scores)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (rows()[:2], "1 of 3 scored impressions are not in the baseline's scores"),
        (rows(impression_id=["a", "b", "x"]), "1 of 3 scored impressions are not in the baseline's scores"),
        (
            pd.concat([rows(), rows(impression_id=["x", "y", "z"])]),
            "3 impressions of the baseline's scores are not",
        ),
        (
            pd.concat([rows(), rows()]),
            r"3 impression ids come more than once in the baseline's scores \(6 rows\)",
        ),
        (rows(click=[1, 1, 1]), "1 impressions have other labels in the baseline's scores"),
        (rows(pctcvr=[0.5, np.nan, 0.1]), "1 impressions have a score outside .* in the baseline's scores"),
    ],
)
def test_a_baseline_of_other_impressions_is_refused(
    aligned: Align, baseline: pd.DataFrame, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        aligned(rows(), baseline)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (TRUTH[1:], "1 of 3 scored impressions are not in the truth"),
        (pd.concat([TRUTH, TRUTH[:2]]), r"2 impression ids come more than once in the truth \(4 rows\)"),
        (TRUTH.assign(conversion_if_clicked=3), "3 impressions have impossible labels in the truth"),
    ],
)
def test_truth_that_does_not_cover_the_scores_is_refused(
    aligned: Align, truth: pd.DataFrame, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        aligned(rows(), truth=truth)


def test_rows_that_got_lost_on_the_way_are_noticed(aligned: Align) -> None:
    with pytest.raises(CountMismatchError, match="files hold 4 rows, 3 came through"):
        aligned(rows(), num_rows=4)
