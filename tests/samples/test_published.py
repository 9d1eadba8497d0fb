"""Before a dataset takes its place its files are held against its manifest; each has a checksum."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import CountMismatchError, InputError
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.files import seals
from esmm_spark.files.manifest_file import read_manifest, write_manifest
from esmm_spark.samples import dataset as dataset_module
from esmm_spark.samples.dataset import preprocess
from tests.flipped_bits import flips_of
from tests.samples.raw_lines import config_for, context, impression, write_split

pytestmark = pytest.mark.spark

CONTEXTS = [context(f"c{number}") for number in range(9)]
IMPRESSIONS = [impression(f"{number}", f"c{number}") for number in range(9)]
BAD = [impression("bad", "nowhere"), impression("worse", "c0", click=2)]


def lose_a_row(file: Path) -> None:
    pq.write_table(pq.read_table(file, partitioning=None)[1:], file)


@pytest.mark.parametrize(
    ("files", "spoil", "message"),
    [
        (
            "examples/split=test/*.parquet",
            lose_a_row,
            r"part-\S+ in \S+ holds .* were counted: nothing was re",
        ),
        (
            "examples/split=test/*.parquet",
            Path.unlink,
            r"part-\S+ was written, but can't be read: .*nothing was",
        ),
        (
            "rejects/test-*.parquet",
            lose_a_row,
            r"1 rejected lines in the \d files of .*, 2 were written: noth",
        ),
        (
            "examples/split=test/*.parquet",
            lambda file: file.with_name("part-x.parquet").write_bytes(file.read_bytes()),
            r"holds examples/split=test/part-x\.parquet, which was not written by this run: ",
        ),
    ],
    ids=["a row", "a file", "a reject", "one too many"],
)
def test_a_dataset_whose_files_are_not_what_was_counted_is_not_published(
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: str,
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    """As two runs did that wrote into one folder: one deleted the other's files, or added its own."""
    config = config_for(tmp_path, {"test": write_split(tmp_path, CONTEXTS, [*IMPRESSIONS, *BAD])})
    before = preprocess(spark, config)

    def spoil_and_write(staging: str, manifest: Manifest) -> None:
        spoil(next(file for file in sorted(Path(staging).glob(files)) if pq.read_metadata(file).num_rows))
        write_manifest(staging, manifest)

    monkeypatch.setattr(dataset_module, "write_manifest", spoil_and_write)
    with pytest.raises(CountMismatchError, match=message) as told:
        preprocess(spark, config)
    assert "\n" not in str(told.value)
    assert read_manifest(config.paths.dataset) == before
    assert [path.name for path in Path(config.paths.dataset).parent.iterdir()] == ["dataset"]


def test_a_flipped_bit_of_rejected_lines_is_told_in_one_line(spark: SparkSession, tmp_path: Path) -> None:
    config = config_for(tmp_path, {"test": write_split(tmp_path, CONTEXTS, [*IMPRESSIONS, *BAD])})
    preprocess(spark, config)
    rejects = sorted(Path(config.paths.dataset).glob("rejects/*.parquet"))
    assert rejects
    for file in rejects:
        said = rf"^\S+{file.name} has another SHA-256 than in .*: mend it$"
        for _ in flips_of(file, 25):
            with pytest.raises(InputError, match=said):
                seals.verify_listed(str(file.parent), "mend it")
    seals.verify_listed(str(rejects[0].parent), "mend it")
