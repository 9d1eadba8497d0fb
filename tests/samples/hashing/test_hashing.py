"""One hash, three implementations: Spark's, Python's, the kernel's."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.samples.hashing.keys import hash_parts, hash_texts
from esmm_spark.samples.hashing.values import field_table, hash_value, row_of_hash
from tests.samples.join_oracle import signed_hash
from tests.samples.raw_lines import SPEC


def hash_of(text: bytes, prefix: bytes = b"") -> int:
    offsets = np.array([0, len(text)], dtype=np.int32)
    return int(hash_texts(to_array(prefix), to_array(text), offsets)[0])


def to_array(text: bytes) -> npt.NDArray[Any]:
    return np.frombuffer(text, dtype=np.uint8)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=40))
@example(b"", b"")
@example(b"a" * 31, b"b")
@example(b"\xff" * 64, b"")
def test_the_kernel_hashes_as_xxhash_does(text: bytes, prefix: bytes) -> None:
    assert hash_of(text, prefix) == signed_hash(prefix + text)


def test_a_hash_does_not_depend_on_the_texts_before_it() -> None:
    texts = [b"a" * 100, b"", b"bc", b"d" * 33]
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    hashes = hash_texts(to_array(b"7#"), to_array(b"".join(texts)), offsets)
    assert hashes.tolist() == [signed_hash(b"7#" + text) for text in texts]


@pytest.mark.spark
def test_spark_hashes_as_xxhash_does(spark: SparkSession) -> None:
    texts = ["", "a", "item=7", "item=café", "user=" + "x" * 100, "\U0001f600" * 9, "0123456789abcdef" * 2]
    frame = spark.createDataFrame([(text,) for text in texts], "text string")
    assert [row[0] for row in frame.select(F.xxhash64("text")).collect()] == [
        signed_hash(text.encode()) for text in texts
    ]


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=90), st.integers(0, len(SPEC.fields) - 1))
def test_a_value_becomes_the_row_that_the_design_says(value: bytes, field: int) -> None:
    table = field_table(SPEC, 100, {})
    spec = SPEC.fields[field]
    value_hash = hash_value(to_array(value), 0, len(value), field, table)
    expected = signed_hash(spec.table_name.encode() + b"=" + value)
    assert value_hash == expected
    assert row_of_hash(value_hash, field, table) == SPEC.offsets[spec.table_name] + 1 + expected % (
        SPEC.tables[spec.table_name].num_buckets - 1
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.integers(0, 10**12)), max_size=5))
def test_a_group_hash_is_that_of_key_and_part(parts: list[tuple[bytes, int]]) -> None:
    keys = [key for key, _ in parts]
    offsets = np.cumsum([0, *map(len, keys)])
    numbers = np.array([number for _, number in parts], dtype=np.int64)
    hashes = hash_parts(to_array(b"".join(keys)), offsets, numbers)
    assert hashes.tolist() == [signed_hash(key + f"#{number}".encode()) for key, number in parts]


def test_a_rare_value_has_bucket_0_of_its_field_only() -> None:
    spec = FeatureSpec.model_validate(
        {
            "tables": {"a": {"num_buckets": 10}, "item": {"num_buckets": 100}},
            "fields": [
                {"name": "a", "level": "context"},
                {"name": "counted", "level": "impression", "table": "item", "min_count": 2},
                {"name": "free", "level": "impression", "table": "item"},
            ],
        }
    )
    frequent = sorted([signed_hash(b"item=x"), signed_hash(b"item=y"), signed_hash(b"item=z")])
    table = field_table(spec, 10, {"counted": np.array(frequent, dtype=np.int64)})
    bucket = 10 + 1 + signed_hash(b"item=x") % 99
    assert row_of_hash(signed_hash(b"item=x"), 1, table) == bucket
    assert row_of_hash(signed_hash(b"item=w"), 1, table) == 10
    assert row_of_hash(signed_hash(b"item=w"), 2, table) > 10


def test_the_seed_is_part_of_the_hash() -> None:
    assert signed_hash(b"a") != np.uint64(xxhash.xxh64_intdigest(b"a")).astype(np.int64)
