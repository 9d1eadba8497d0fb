"""Scores and truth that can't be evaluated: one line that says what and where."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import ConfigError, IncompleteError, InputError, UnsafeFileError
from esmm_spark.evaluation.measure.inputs import (
    baseline_folder,
    model_version,
    read_scores,
    read_truth,
    require_other_scores,
)
from esmm_spark.files import seals
from tests.evaluation.scored_data import truth_of, write_record, write_scores, write_truth
from tests.flipped_bits import flips_of

pytestmark = pytest.mark.spark


@pytest.fixture
def folder(tmp_path: Path, data: pd.DataFrame) -> Path:
    """Scores of 40 impressions in two files."""
    return write_scores(tmp_path / "scores" / "split=test", data[:40])


def test_scores_are_read_with_their_number_of_rows(spark: SparkSession, folder: Path) -> None:
    scores, num_rows = read_scores(spark, str(folder))
    assert (num_rows, scores.count()) == (40, 40)
    assert model_version(scores, str(folder)) == "000001-aaaa"


def test_a_plain_path_is_this_hosts_whatever_file_system_spark_takes_for_its_default(
    spark_elsewhere: SparkSession, folder: Path, tmp_path: Path, data: pd.DataFrame
) -> None:
    assert read_scores(spark_elsewhere, str(folder))[0].count() == 40
    write_truth(tmp_path / "truth.parquet", truth_of(data))
    assert read_truth(spark_elsewhere, str(tmp_path / "truth.parquet")).count() == len(data)


def test_missing_scores_name_the_command_that_makes_them(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no scores at .*nowhere: run jobs/score\.py"):
        read_scores(spark, str(tmp_path / "nowhere"))


def test_half_written_scores_are_refused(spark: SparkSession, folder: Path) -> None:
    (folder / "_SUCCESS").unlink()
    with pytest.raises(IncompleteError, match=r"scores at .*split=test is half-written"):
        read_scores(spark, str(folder))


@pytest.mark.parametrize("length", [0, 3, 500])
def test_a_truncated_file_is_named(spark: SparkSession, folder: Path, length: int) -> None:
    file = folder / "part-1.parquet"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(InputError, match=r"part-1\.parquet is no Parquet file, or a truncated one"):
        read_scores(spark, str(folder))


def test_a_damaged_page_is_an_error_that_names_the_file(spark: SparkSession, folder: Path) -> None:
    file = folder / "part-1.parquet"
    content = bytearray(file.read_bytes())
    column = pq.read_metadata(file).row_group(0).column(5)
    start = column.dictionary_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(bytes(content))
    scores, _ = read_scores(spark, str(folder))
    with pytest.raises(InputError, match=r"the scores can't be read, file:.*part-1\.parquet is corrupt"):
        model_version(scores, str(folder))


def test_a_file_without_a_column_or_of_another_type_is_named(spark: SparkSession, folder: Path) -> None:
    file = folder / "part-0.parquet"
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.drop_columns(["pcvr", "click"]), file)
    with pytest.raises(InputError, match=r"part-0\.parquet lacks the columns pcvr, click of scores"):
        read_scores(spark, str(folder))
    pq.write_table(table.set_column(2, "pctr", table["pctr"].cast(pa.float64())), file)
    with pytest.raises(InputError, match=r"column pctr of .*part-0\.parquet is double, .* must be float"):
        read_scores(spark, str(folder))


def test_no_rows_are_no_scores(spark: SparkSession, tmp_path: Path, data: pd.DataFrame) -> None:
    empty = write_scores(tmp_path / "split=test", data[:0])
    with pytest.raises(InputError, match=r"scores at .* have no rows in 2 Parquet files"):
        read_scores(spark, str(empty))


def test_a_lost_file_is_noticed_by_the_scorers_record(spark: SparkSession, folder: Path) -> None:
    write_record(folder, 40)
    assert read_scores(spark, str(folder))[1] == 40
    (folder / "part-1.parquet").unlink()
    with pytest.raises(InputError, match=r"have 20 rows, _score\.json tells of 40 impressions"):
        read_scores(spark, str(folder))
    (folder / "_score.json").write_text("[")
    with pytest.raises(InputError, match=r"is not a _score\.json of this version"):
        read_scores(spark, str(folder))


def test_a_pickle_beside_the_scores_is_refused(spark: SparkSession, folder: Path) -> None:
    (folder / "_common_metadata").write_bytes(b"")
    with pytest.raises(UnsafeFileError, match="_common_metadata"):
        read_scores(spark, str(folder))


def test_scores_of_two_models_are_refused(spark: SparkSession, tmp_path: Path, data: pd.DataFrame) -> None:
    mixed = data[:40].assign(model_version=["000001-aaaa"] * 20 + ["000002-bbbb"] * 20)
    folder = write_scores(tmp_path / "split=test", mixed)
    scores, _ = read_scores(spark, str(folder))
    with pytest.raises(InputError, match=r"2 model versions \(000001-aaaa, 000002-bbbb\), not one"):
        model_version(scores, str(folder))


@pytest.mark.parametrize("as_folder", [True, False])
def test_truth_may_be_a_file_or_a_folder(
    spark: SparkSession, tmp_path: Path, data: pd.DataFrame, as_folder: bool
) -> None:
    path = tmp_path / "truth.parquet"
    write_truth(path / "split=test" / "part-0.parquet" if as_folder else path, truth_of(data[:7]))
    assert read_truth(spark, str(path)).count() == 7


def test_missing_or_corrupt_truth_is_named(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "truth.parquet"
    with pytest.raises(InputError, match=r"no truth at .*truth\.parquet: evaluate\.truth names"):
        read_truth(spark, str(path))
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"truth\.parquet is no Parquet file"):
        read_truth(spark, str(path))


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
    spark: SparkSession, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "_PATIENCE_S", 0.0)
    write_record(folder, 40)
    seals.seal(str(folder), (".json", ".parquet"))
    for _ in flips_of(folder / name, 40):
        with pytest.raises(InputError, match=rf"^\S+{name} has another SHA-256 than in .*--force$"):
            read_scores(spark, str(folder))
    assert read_scores(spark, str(folder))[1] == 40
