"""A file that a Spark job can't read to its end is one line and exit code 2."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import InputError
from esmm_spark.files import filesystems
from esmm_spark.spark.failures import user_errors
from esmm_spark.spark.unreadable import unreadable_file

NUM_LINES = 20_000


def told(spark: SparkSession, path: Path) -> str:
    reader = spark.read.option("parquet.page.verify-checksum.enabled", "true").schema("a bigint")
    kind = "parquet" if path.suffix == ".parquet" else "json"
    with pytest.raises(InputError) as failed, user_errors(spark, "write it again"):
        reader.format(kind).load(filesystems.spark_path(str(path))).agg(F.max("a")).collect()
    assert "\n" not in str(failed.value)
    return str(failed.value)


@pytest.mark.spark
def test_truncated_damaged_and_unreadable_files_are_named_with_their_cause(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines = "".join(f'{{"a": {number}}}\n' for number in range(NUM_LINES)).encode()
    packed = gzip.compress(lines)
    short = tmp_path / "a b.json.gz"
    short.write_bytes(packed[: len(packed) // 2])
    said = told(spark, short)
    assert "a b.json.gz: it is truncated" in said
    assert "(Unexpected end of input stream): write it again, whole" in said

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


def test_the_innermost_cause_of_a_failure_is_told() -> None:
    trace = (
        "An error occurred while calling o1.count.\n: org.apache.spark.SparkException: "
        "[FAILED_READ_FILE.NO_HINT] Encountered error while reading file file:///logs/a.gz.  SQLSTATE: 1\n"
        "Caused by: java.io.IOException: outer\n\tat A.b(C.scala:1)\nCaused by: java.io.EOFException: inner\n"
    )
    found = unreadable_file(trace, "mend the logs")
    assert "can't read file:///logs/a.gz: " in str(found)
    assert "(inner): mend the logs" in str(found)
    assert unreadable_file("a defect", "mend the logs") is None
