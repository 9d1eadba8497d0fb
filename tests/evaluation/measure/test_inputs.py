"""Scores and truth that can't be evaluated: one line that says what and where."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Evaluate
from esmm_spark.contracts.errors import ConfigError, IncompleteError, InputError, UnsafeFileError
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.evaluation.measure.inputs import (
    baseline_folder,
    find_scores,
    find_truth,
    one_version,
    require_other_scores,
)
from esmm_spark.evaluation.measure.measurement import measure
from esmm_spark.files import seals
from tests.evaluation.local_job import measure_locally
from tests.evaluation.scored_data import truth_of, write_record, write_scores, write_truth
from tests.flipped_bits import flips_of


@pytest.fixture
def folder(tmp_path: Path, data: pd.DataFrame) -> Path:
    """Scores of 40 impressions in two files."""
    return write_scores(tmp_path / "scores" / "split=test", data[:40])


def test_scores_are_found_with_their_number_of_rows(folder: Path) -> None:
    found = find_scores(str(folder), DEFAULT_TASKS)
    assert (found.num_impressions, len(found.spans)) == (40, 2)
    assert one_version({"000001-aaaa"}, str(folder)) == "000001-aaaa"


@pytest.mark.spark
def test_a_plain_path_is_this_hosts_whatever_file_system_spark_takes_for_its_default(
    spark_elsewhere: SparkSession, folder: Path, tmp_path: Path, data: pd.DataFrame
) -> None:
    write_truth(tmp_path / "truth.parquet", truth_of(data))
    sources = {
        "model": find_scores(str(folder), DEFAULT_TASKS),
        "oracle": find_truth(str(tmp_path / "truth.parquet"), DEFAULT_TASKS),
    }
    found = measure(spark_elsewhere, Evaluate(bootstrap_samples=2), DEFAULT_TASKS, sources)
    assert found.labels["cvr_entire_space"].impressions == 40


def test_missing_scores_name_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no scores at .*nowhere: run jobs/score\.py"):
        find_scores(str(tmp_path / "nowhere"), DEFAULT_TASKS)


def test_half_written_scores_are_refused(folder: Path) -> None:
    (folder / "_SUCCESS").unlink()
    with pytest.raises(IncompleteError, match=r"scores at .*split=test is half-written"):
        find_scores(str(folder), DEFAULT_TASKS)


@pytest.mark.parametrize("length", [0, 3, 500])
def test_a_truncated_file_is_named(folder: Path, length: int) -> None:
    file = folder / "part-1.parquet"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(InputError, match=r"part-1\.parquet is no Parquet file, or a truncated one"):
        find_scores(str(folder), DEFAULT_TASKS)


def test_a_damaged_page_is_an_error_that_names_the_file(folder: Path) -> None:
    file = folder / "part-1.parquet"
    content = bytearray(file.read_bytes())
    column = pq.read_metadata(file).row_group(0).column(5)
    start = column.dictionary_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(bytes(content))
    sources = {"model": find_scores(str(folder), DEFAULT_TASKS)}
    with pytest.raises(InputError, match=r"the scores can't be read, .*part-1\.parquet is corrupt \("):
        measure_locally(sources)


def test_a_file_without_a_column_or_of_another_type_is_named(folder: Path) -> None:
    file = folder / "part-0.parquet"
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.drop_columns(["pcvr", "click"]), file)
    with pytest.raises(InputError, match=r"part-0\.parquet lacks the columns pcvr, click of scores"):
        find_scores(str(folder), DEFAULT_TASKS)
    pq.write_table(table.set_column(2, "pctr", table["pctr"].cast(pa.float64())), file)
    with pytest.raises(InputError, match=r"column pctr of .*part-0\.parquet is double, .* must be float"):
        find_scores(str(folder), DEFAULT_TASKS)


def test_no_rows_are_no_scores(tmp_path: Path, data: pd.DataFrame) -> None:
    empty = write_scores(tmp_path / "split=test", data[:0])
    with pytest.raises(InputError, match=r"scores at .* have no impressions in 2 Parquet files"):
        find_scores(str(empty), DEFAULT_TASKS)


def test_a_lost_file_is_noticed_by_the_scorers_record(folder: Path) -> None:
    write_record(folder, 40)
    assert find_scores(str(folder), DEFAULT_TASKS).num_impressions == 40
    (folder / "part-1.parquet").unlink()
    with pytest.raises(InputError, match=r"have 20 impressions, _score\.json tells of 40"):
        find_scores(str(folder), DEFAULT_TASKS)
    (folder / "_score.json").write_text("[")
    with pytest.raises(InputError, match=r"is not a _score\.json of this version"):
        find_scores(str(folder), DEFAULT_TASKS)


def test_a_pickle_beside_the_scores_is_refused(folder: Path) -> None:
    (folder / "_common_metadata").write_bytes(b"")
    with pytest.raises(UnsafeFileError, match="_common_metadata"):
        find_scores(str(folder), DEFAULT_TASKS)


def test_scores_of_two_models_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"2 model versions \(000001-aaaa, 000002-bbbb\), not one"):
        one_version({"000002-bbbb", "000001-aaaa"}, str(folder))


@pytest.mark.parametrize("as_folder", [True, False])
def test_truth_may_be_a_file_or_a_folder(tmp_path: Path, data: pd.DataFrame, as_folder: bool) -> None:
    path = tmp_path / "truth.parquet"
    write_truth(path / "split=test" / "part-0.parquet" if as_folder else path, truth_of(data[:7]))
    assert find_truth(str(path), DEFAULT_TASKS).num_impressions == 7


def test_missing_or_corrupt_truth_is_named(tmp_path: Path) -> None:
    path = tmp_path / "truth.parquet"
    with pytest.raises(InputError, match=r"no truth at .*truth\.parquet: evaluate\.truth names"):
        find_truth(str(path), DEFAULT_TASKS)
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"truth\.parquet is no Parquet file"):
        find_truth(str(path), DEFAULT_TASKS)


def test_a_baseline_is_named_by_its_root_or_its_partition(folder: Path) -> None:
    root = str(folder.parent)
    assert baseline_folder(root, "split=test") == str(folder)
    assert baseline_folder(str(folder), "split=test") == str(folder)
    assert baseline_folder(root, "split=train") == f"{root}/split=train"


def test_scores_are_not_compared_with_themselves(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    require_other_scores(str(tmp_path / "base"), str(tmp_path / "scores"))
    with pytest.raises(ConfigError, match=r"leads to .*/link/scores, the scores that are evaluated"):
        require_other_scores(str(tmp_path / "link" / "scores"), str(tmp_path / "scores"))


@pytest.mark.parametrize("name", ["part-1.parquet", "_score.json"])
def test_a_flipped_bit_of_scores_is_told_in_one_line(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "_PATIENCE_S", 0.0)
    write_record(folder, 40)
    seals.seal(str(folder), (".json", ".parquet"))
    for _ in flips_of(folder / name, 40):
        with pytest.raises(InputError, match=rf"^\S+{name} has another SHA-256 than in .*--force$"):
            find_scores(str(folder), DEFAULT_TASKS)
    assert find_scores(str(folder), DEFAULT_TASKS).num_impressions == 40
