"""A file that a Spark job can't read to its end is one line and exit code 2."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from esmm_spark import storage
from esmm_spark.command import run_command
from esmm_spark.errors import InputError
from esmm_spark.unreadable import unreadable_file

NUM_LINES = 20_000


def told(spark: SparkSession, path: Path) -> str:
    reader = spark.read.option("parquet.page.verify-checksum.enabled", "true").schema("a bigint")
    kind = "parquet" if path.suffix == ".parquet" else "json"
    with pytest.raises(Exception, match="FAILED_READ_FILE") as failed:
        reader.format(kind).load(storage.spark_path(str(path))).agg(F.max("a")).collect()
    error = unreadable_file(failed.value)
    assert isinstance(error, InputError)
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.spark
def test_truncated_damaged_and_unreadable_files_are_named_with_their_cause(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines = "".join(f'{{"a": {number}}}\n' for number in range(NUM_LINES)).encode()
    packed = gzip.compress(lines)
    short = tmp_path / "a b.json.gz"
    short.write_bytes(packed[: len(packed) // 2])
    assert "a b.json.gz can't be read to its end: Unexpected end of input stream: the file is trunc" in told(
        spark, short
    )

    zstandard = tmp_path / "a.json.zst"
    with pa.CompressedOutputStream(str(zstandard), "zstd") as stream:
        stream.write(lines)
    assert "Spark's Hadoop has no zstd here: write the file as .gz or .bz2" in told(spark, zstandard)

    spark.range(NUM_LINES).selectExpr("xxhash64(id) as a").coalesce(1).write.option(
        "compression", "none"
    ).parquet((tmp_path / "p").as_uri())
    (flipped,) = (tmp_path / "p").glob("*.parquet")
    for checksum in (tmp_path / "p").glob(".*.crc"):
        checksum.unlink()
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    assert "its content has changed since it was written" in told(spark, flipped)


def test_a_command_ends_with_that_line_and_keeps_the_trace_of_all_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trace = (
        "An error occurred while calling o1.count.\n: org.apache.spark.SparkException: "
        "[FAILED_READ_FILE.NO_HINT] Encountered error while reading file file:///logs/a.gz.  SQLSTATE: 1\n"
        "Caused by: java.io.IOException: outer\n\tat A.b(C.scala:1)\nCaused by: java.io.EOFException: inner\n"
    )

    def fail(message: str) -> None:
        raise RuntimeError(message)

    with pytest.raises(SystemExit) as end:
        run_command(lambda _: fail(trace))
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: file:///logs/a.gz can't be read to its end: inner: the file is damaged, write it again\n"
    )
    with pytest.raises(RuntimeError, match="a defect"):
        run_command(lambda _: fail("a defect"))
