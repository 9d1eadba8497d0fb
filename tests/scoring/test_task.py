"""What a task reads and writes, and what becomes of the files of its attempts."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.manifest import PartitionCounts
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import row_groups_of
from esmm_spark.feed.row_groups import read_row_groups
from esmm_spark.files.attempts import attempt_name, keep_attempt
from esmm_spark.scoring.predictor import Predictor
from esmm_spark.scoring.score_file import ScoreFile
from esmm_spark.scoring.task import ScoreJob, score_share
from esmm_spark.scoring.work import work_per_task
from esmm_spark.spark.tasks import Attempt
from tests.scoring.random_model import write_model
from tests.synthetic_examples import SPEC, config_content, random_groups, write_partition

GROUPS = random_groups(30, seed=5)


@pytest.fixture
def counts(tmp_path: Path) -> PartitionCounts:
    return write_partition(tmp_path, "split=test", GROUPS, [[10, 5], [8, 7]])


def size_of(first: int, last: int) -> int:
    return sum(len(group["click"]) for group in GROUPS[first:last])


def test_of_two_attempts_one_file_is_kept(tmp_path: Path, counts: PartitionCounts) -> None:
    model = write_model(Config.model_validate(config_content(tmp_path)))
    predictor, attempts = Predictor(model.uri), tmp_path / "attempts"
    attempts.mkdir()
    job = ScoreJob(
        dataset=str(tmp_path),
        model_uri=model.uri,
        model_version=predictor.info.model_version,
        folder=str(attempts),
        carry={},
        batch_size=10,
        shares=work_per_task(counts, 2),
    )
    first, second = (score_share(job, Attempt(1, attempt_name(1, number)), predictor) for number in (7, 9))
    assert (first.file, second.file) == ("part-00001.7.parquet", "part-00001.9.parquet")
    assert first.sums == second.sums
    assert first.impressions == size_of(15, 30)

    assert keep_attempt(str(attempts), second.file, str(tmp_path)) == "part-00001.parquet"

    kept = pq.read_table(tmp_path / "part-00001.parquet")
    assert kept["impression_id"].to_pylist() == [i for group in GROUPS[15:] for i in group["impression_id"]]
    assert [path.name for path in attempts.iterdir()] == [first.file]
    expected = model.own_output(GROUPS[15:]).sum(axis=1, dtype=float)
    assert second.sums == pytest.approx(expected, rel=1e-5)


def test_many_row_groups_of_scores_keep_their_order_and_their_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmm_spark.scoring.score_file._ROW_GROUP_BYTES", 500)
    predictor = Predictor(write_model(Config.model_validate(config_content(tmp_path))).uri)
    counts = write_partition(tmp_path, "split=many", GROUPS, [[1] * 30])
    layout = Layout(SPEC, for_scoring=True)
    file = ScoreFile(str(tmp_path / "scores.parquet"), layout.brought)
    for groups in read_row_groups(str(tmp_path), row_groups_of(counts), layout):
        file.write(predictor.score_groups(groups, layout, 10))
    num_rows, sha256 = file.close()
    assert num_rows == size_of(0, 30)
    assert sha256 == hashlib.sha256((tmp_path / "scores.parquet").read_bytes()).hexdigest()
    written = pq.ParquetFile(tmp_path / "scores.parquet")
    assert 1 < written.num_row_groups < 30
    table = written.read()
    assert table["impression_id"].to_pylist() == [i for group in GROUPS for i in group["impression_id"]]
    assert table["group_key"].to_pylist() == [group["group_key"] for group in GROUPS for _ in group["click"]]
    assert table["group_key"].type == table["model_version"].type == pa.string()
    assert set(table["model_version"].to_pylist()) == {predictor.info.model_version}
