"""Small scored data sets with ties, uneven groups and labels that depend on the scores, and their files."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from esmm_spark.contracts.schemas.columns import TRUTH_COLUMNS, names_of, score_columns
from esmm_spark.contracts.schemas.layout import SCORE_NAME
from esmm_spark.contracts.schemas.records import ScoreInput, ScoreRecord
from esmm_spark.contracts.schemas.task_columns import truth_columns
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.files.schemas import arrow_schema


def simulate(num_groups: int = 60, seed: int = 0) -> pd.DataFrame:
    """Returns impressions with the columns of scores and truth, and `b_*` scores of a worse model.

    Scores are rounded to 2 digits, so that many tie, also across groups.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, num_groups)
    n = int(sizes.sum())
    true_pctr, true_pcvr = rng.beta(2, 6, n), rng.beta(2, 4, n)
    click = (rng.random(n) < true_pctr).astype(np.int8)
    conversion_if_clicked = (rng.random(n) < true_pcvr).astype(np.int8)

    def scores(p: npt.NDArray[Any], noise: float) -> npt.NDArray[Any]:
        logit = np.log(p / (1 - p)) + rng.normal(0, noise, n)
        rounded: npt.NDArray[Any] = np.clip(np.round(1 / (1 + np.exp(-logit)), 2), 0, 1)
        return rounded.astype(np.float32)

    data = pd.DataFrame(
        {
            "impression_id": [f"i{i}" for i in range(n)],
            "group_key": np.repeat([f"g{i}" for i in range(num_groups)], sizes),
            "pctr": scores(true_pctr, 0.3),
            "pcvr": scores(true_pcvr, 0.3),
            "model_version": "000001-aaaa",
            "click": click,
            "conversion": click * conversion_if_clicked,
            "true_pctr": true_pctr,
            "true_pcvr": true_pcvr,
            "conversion_if_clicked": conversion_if_clicked,
            "b_pctr": scores(true_pctr, 1.0),
            "b_pcvr": scores(true_pcvr, 1.0),
        }
    )
    data["pctcvr"] = data.pctr * data.pcvr
    data["b_pctcvr"] = data.b_pctr * data.b_pcvr
    return data.sample(frac=1, random_state=seed).reset_index(drop=True)


def baseline_of(data: pd.DataFrame) -> pd.DataFrame:
    """Returns the scores of the worse model."""
    worse = {name: data[f"b_{name}"] for name in ("pctr", "pcvr", "pctcvr")}
    return data.assign(**worse, model_version="000007-bbbb")


def truth_of(data: pd.DataFrame) -> pd.DataFrame:
    """Returns the simulator's truth of the impressions."""
    return data.assign(pctr=data.true_pctr, pcvr=data.true_pcvr)[names_of(TRUTH_COLUMNS)]


def write_scores(folder: Path, data: pd.DataFrame, tasks: Tasks = DEFAULT_TASKS) -> Path:
    """Writes a scored partition as the scorer lays it out, in two files, and returns its folder."""
    columns = score_columns(tasks.all_score_columns, tasks.names, {})
    table = pa.Table.from_pandas(data[names_of(columns)], arrow_schema(columns), preserve_index=False)
    folder.mkdir(parents=True)
    half = table.num_rows // 2
    pq.write_table(table.slice(0, half), folder / "part-0.parquet")
    pq.write_table(table.slice(half), folder / "part-1.parquet")
    (folder / "_SUCCESS").touch()
    return folder


def write_truth(file: Path, truth: pd.DataFrame, tasks: Tasks = DEFAULT_TASKS) -> None:
    """Writes the simulator's truth as one file."""
    columns = truth_columns(tasks)
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(truth[names_of(columns)], arrow_schema(columns), preserve_index=False)
    pq.write_table(table, file)


def write_record(folder: Path, impressions: int) -> None:
    """Writes the scorer's record of a partition."""
    inputs = ScoreInput(
        model_version="000001-aaaa", feature_spec_digest="", source="examples", paths=[], digest=""
    )
    record = ScoreRecord(
        input=inputs, impressions=impressions, mean_pctr=None, mean_pcvr=None, mean_pctcvr=None
    )
    (folder / SCORE_NAME).write_text(record.model_dump_json())
