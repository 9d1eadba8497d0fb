"""Every impression exactly once, or an error that says how many are not."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from esmm_spark.contracts.config import Evaluate
from esmm_spark.contracts.errors import CountMismatchError, InputError
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.evaluation.measure.inputs import Source
from esmm_spark.evaluation.measure.measurement import measurements_of, plan_job
from esmm_spark.evaluation.measure.running import Results
from esmm_spark.evaluation.measure.targets import LabelCounts
from tests.evaluation.local_job import measure_locally, run_locally, write_sources


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


def rejected(
    folder: Path,
    scores: pd.DataFrame,
    baseline: pd.DataFrame | None = None,
    truth: pd.DataFrame | None = None,
) -> str:
    """Returns what an evaluation of these sides is refused with."""
    with pytest.raises(InputError) as error:
        measure_locally(write_sources(folder, scores, baseline, truth))
    return str(error.value)


def test_all_sides_meet_on_the_impression(tmp_path: Path) -> None:
    baseline = rows(pctr=[0.75, 0.5, 0.25])
    found = measure_locally(write_sources(tmp_path, rows(), baseline.iloc[::-1], TRUTH))
    assert found.series == ("model", "baseline", "oracle")
    assert (found.num_impressions, found.num_unlabelled, found.num_groups) == (3, 0, 2)
    assert found.labels == {
        "ctr": LabelCounts(3, 2),
        "cvr_clicks": LabelCounts(2, 1),
        "ctcvr": LabelCounts(3, 1),
        "cvr_entire_space": LabelCounts(3, 2),
    }
    # pctr of a, b, c over two clicks; the truth's pctr * pcvr over one conversion.
    for series, key, expected in (
        ("model", "ctr_calibration", 0.875 / 2),
        ("baseline", "ctr_calibration", 1.5 / 2),
        ("oracle", "ctr_calibration", 0.6 / 2),
        ("oracle", "ctcvr_calibration", 0.12 + 0.21 + 0.05),
        ("oracle", "cvr_calibration_entire_space", 1.8 / 2),
    ):
        assert found.estimates[series, key].value == pytest.approx(expected)


def test_unknown_labels_are_counted_and_left_out_of_their_targets(tmp_path: Path) -> None:
    # b was not clicked, so it did not convert; a's conversion may still come; c is not labelled at all.
    found = measure_locally(write_sources(tmp_path, rows(click=[1, 0, None], conversion=[None, None, None])))
    assert found.num_unlabelled == 1
    assert found.labels == {
        "ctr": LabelCounts(2, 1),
        "cvr_clicks": LabelCounts(0, 0),
        "ctcvr": LabelCounts(1, 0),
    }


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            rows(impression_id=["a", "a", "c"]),
            r"1 impression ids come more than once in the scores \(2 times\)",
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
def test_bad_scores_are_counted_in_the_error(tmp_path: Path, scores: pd.DataFrame, message: str) -> None:
    assert re.search(message, rejected(tmp_path, scores))


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
            r"3 impression ids come more than once in the baseline's scores \(6 times\)",
        ),
        (rows(click=[1, 1, 1]), "1 impressions have other labels in the baseline's scores"),
        (rows(pctcvr=[0.5, np.nan, 0.1]), "1 impressions have a score outside .* in the baseline's scores"),
    ],
)
def test_a_baseline_of_other_impressions_is_refused(
    tmp_path: Path, baseline: pd.DataFrame, message: str
) -> None:
    assert re.search(message, rejected(tmp_path, rows(), baseline))


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (TRUTH[1:], "1 of 3 scored impressions are not in the truth"),
        (pd.concat([TRUTH, TRUTH[:2]]), r"2 impression ids come more than once in the truth \(4 times\)"),
        (TRUTH.assign(conversion_if_clicked=3), "3 impressions have impossible labels in the truth"),
    ],
)
def test_truth_that_does_not_cover_the_scores_is_refused(
    tmp_path: Path, truth: pd.DataFrame, message: str
) -> None:
    assert re.search(message, rejected(tmp_path, rows(), truth=truth))


def test_rows_that_got_lost_on_the_way_are_noticed(tmp_path: Path) -> None:
    sources = write_sources(tmp_path, rows())
    one_less = Source(sources["model"].uri, sources["model"].spans[1:])
    job = plan_job(Evaluate(bootstrap_samples=0), DEFAULT_TASKS, sources)
    found = run_locally({"model": one_less}, job)
    with pytest.raises(CountMismatchError, match="files hold 3 impressions, 2 came through"):
        measurements_of(found, sources, job, 20)


def test_an_impression_that_is_not_ranked_is_noticed(tmp_path: Path) -> None:
    sources = write_sources(tmp_path, rows())
    job = plan_job(Evaluate(bootstrap_samples=0), DEFAULT_TASKS, sources)
    found = run_locally(sources, job)
    lost = [vector for vector in found.vectors if not vector.key.startswith("model_ctr/")]
    with pytest.raises(CountMismatchError, match="model_ctr: 0 impressions with 0 positives were ranked"):
        measurements_of(Results(found.notes, lost), sources, job, 20)


@pytest.mark.parametrize("versions", [["v", "w", "v"], ["v", None, "v"]])
def test_scores_of_two_models_are_refused(tmp_path: Path, versions: list[object]) -> None:
    message = rejected(tmp_path, rows(model_version=versions))
    assert re.search(r"carry \d model versions .*, not one: score the partition again with --force", message)


def test_a_file_of_one_id_is_told_without_being_held_in_memory_twice(tmp_path: Path) -> None:
    many = pd.concat([rows(impression_id=["a", "a", "a"])] * 1000)
    assert "1 impression ids come more than once in the scores (3000 times)" in rejected(tmp_path, many)
