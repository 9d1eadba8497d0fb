"""min_count: rare values go to bucket 0."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import DEFAULT_COLUMNS
from esmm_spark.files import seals
from esmm_spark.logs.raw_files import read_split
from esmm_spark.samples.dataset import preprocess
from esmm_spark.samples.hashing.held_out import HeldOut
from esmm_spark.samples.value_counts import count_values
from esmm_spark.samples.vocabulary import VOCABULARY_SCHEMA, load_vocabulary, write_vocabulary
from tests.flipped_bits import flips_of
from tests.samples.join_oracle import signed_hash
from tests.samples.raw_lines import SPEC, config_for, context, impression, token, write_split

COUNTED = FeatureSpec.model_validate(
    {
        **SPEC.model_dump(),
        "fields": [
            {**field.model_dump(), "min_count": {"109": 2, "205": 3}.get(field.name, 1)}
            for field in SPEC.fields
        ],
    }
)
CONTEXTS = [
    context("a", token("109", "1"), token("109", "1"), token("101", "u")),  # twice on one line: one line
    context("b", token("109", "2")),
    context("c", token("109", "2")),
]
IMPRESSIONS = [
    *[impression(f"a{i}", "a", token("205", "often")) for i in range(3)],
    *[impression(f"b{i}", "b", token("205", "rare")) for i in range(2)],
    impression("b9", "b", token("205", "rare", "broken")),  # does not parse: does not count
    impression("c1", "c", token("205", "1")),
]


def counts_of(lines: Sequence[bytes], kind: int, batch_size: int = 1000) -> Counter[tuple[str, int]]:
    batches = [
        pa.record_batch(
            [
                pa.array([kind] * len(lines[start : start + batch_size]), pa.int8()),
                pa.array(lines[start : start + batch_size]),
            ],
            names=["kind", "line"],
        )
        for start in range(0, len(lines), batch_size)
    ]
    counts: Counter[tuple[str, int]] = Counter()
    for batch in count_values(batches, COUNTED, DEFAULT_COLUMNS):
        for row in batch.to_pylist():
            counts[COUNTED.fields[row["field"]].name, row["value_hash"]] += row["lines"]
    return counts


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_a_line_counts_once_for_each_value_and_only_if_it_parses(batch_size: int) -> None:
    assert counts_of(CONTEXTS, 0, batch_size) == {
        ("109", signed_hash(b"item=1")): 1,
        ("109", signed_hash(b"item=2")): 2,
    }
    assert counts_of(IMPRESSIONS, 1, batch_size) == {
        ("205", signed_hash(b"item=often")): 3,
        ("205", signed_hash(b"item=rare")): 2,
        ("205", signed_hash(b"item=1")): 1,
    }


def test_a_line_of_many_values_counts_each() -> None:
    line = context("k", *[token("109", str(value % 20_000)) for value in range(40_000)])
    assert counts_of([line, line], 0) == {
        ("109", signed_hash(b"item=%d" % value)): 2 for value in range(20_000)
    }


@pytest.mark.spark
def test_rare_values_go_to_bucket_0_in_every_split(spark: SparkSession, tmp_path: Path) -> None:
    train = write_split(tmp_path / "train", CONTEXTS, IMPRESSIONS)
    test = write_split(
        tmp_path / "test",
        [context("x", token("109", "1"), token("109", "2"))],
        [impression("x1", "x", token("205", "often")), impression("x2", "x", token("205", "rare"))],
    )
    config = config_for(tmp_path, {"test": test, "train": train}, COUNTED)
    preprocess(spark, config)
    rare = COUNTED.offsets["item"]
    frequent = {value: rare + 1 + signed_hash(b"item=" + value) % 49 for value in (b"2", b"often")}
    (row,) = read(config.paths.dataset, "split=test")
    assert row["context_rows"] == [rare, frequent[b"2"]]
    assert row["impression_rows"] == [frequent[b"often"], rare]
    rows = {row["group_key"]: row["impression_rows"] for row in read(config.paths.dataset, "split=train")}
    assert rows == {"a": [frequent[b"often"]] * 3, "b": [rare] * 2, "c": [rare]}

    vocabulary = load_vocabulary(f"{config.paths.dataset}/vocabulary", COUNTED)
    assert {name: hashes.tolist() for name, hashes in vocabulary.items()} == {
        "109": [signed_hash(b"item=2")],
        "205": [signed_hash(b"item=often")],
    }


def read(dataset: str, partition: str) -> list[dict[str, Any]]:
    files = sorted(Path(dataset, "examples", partition).glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@pytest.mark.spark
def test_held_out_groups_do_not_count(spark: SparkSession, tmp_path: Path) -> None:
    lines = read_split(spark, write_split(tmp_path, CONTEXTS, IMPRESSIONS))
    held_out = HeldOut("split=validation", 0.4, 8)
    sides = {key: signed_hash(f"8#{key}".encode()) % 1_000_000 < 400_000 for key in "abc"}
    assert sides == {"a": False, "b": False, "c": True}, "the test wants c alone held out"
    write_vocabulary(lines, COUNTED, DEFAULT_COLUMNS, held_out, str(tmp_path / "vocabulary"))
    vocabulary = load_vocabulary(str(tmp_path / "vocabulary"), COUNTED)
    assert {name: hashes.tolist() for name, hashes in vocabulary.items()} == {
        "109": [],
        "205": [signed_hash(b"item=often")],
    }


@pytest.mark.spark
def test_more_frequent_values_than_fit_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    lines = read_split(spark, write_split(tmp_path, CONTEXTS, IMPRESSIONS))
    with pytest.raises(ConfigError, match="2 values have the min_count of their field, more than 1, "):
        write_vocabulary(lines, COUNTED, DEFAULT_COLUMNS, None, str(tmp_path / "vocabulary"), max_values=1)


@pytest.mark.spark
def test_min_count_needs_the_train_split(spark: SparkSession, tmp_path: Path) -> None:
    config = config_for(tmp_path, {"test": write_split(tmp_path, CONTEXTS, IMPRESSIONS)}, COUNTED)
    with pytest.raises(ConfigError, match=r"min_count > 1, which is counted on logs\.splits\.train"):
        preprocess(spark, config)


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no vocabulary at .*/nowhere"):
        load_vocabulary(str(tmp_path / "nowhere"), COUNTED)


def test_a_flipped_bit_of_a_vocabulary_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "_PATIENCE_S", 0.0)
    spec = FeatureSpec.model_validate(
        {
            "tables": {"user": {"num_buckets": 20}},
            "fields": [{"name": "user", "level": "context", "min_count": 2}],
        }
    )
    columns = {"field": ["user"] * 50, "value_hash": range(50)}
    path = tmp_path / "part-0.parquet"
    pq.write_table(pa.table(columns, VOCABULARY_SCHEMA), path)
    seals.seal(str(tmp_path), (".parquet",))
    assert load_vocabulary(str(tmp_path), spec)["user"].tolist() == list(range(50))
    for _ in flips_of(path, 60):
        with pytest.raises(InputError, match=r"^\S+part-0\.parquet has another SHA-256 than in .* again$"):
            load_vocabulary(str(tmp_path), spec)
