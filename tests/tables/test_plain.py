"""Plain tables, which Arrow reads in the tasks, against the same tables read by Spark's expressions."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import CountMismatchError, InputError
from esmm_spark.samples.dataset import preprocess
from esmm_spark.tables.counting import count_staged, describe_source
from esmm_spark.tables.files import open_table
from esmm_spark.tables.lines import Wanted, read_lines
from esmm_spark.tables.plain import Plain, find_plain, write_plain
from esmm_spark.tables.staging import context_texts, staged_lines, texts_made_later
from esmm_spark.tables.table_log import read_table
from tests.tables.small_tables import Line, impressions_of, table_config

pytestmark = pytest.mark.spark

VALUES = [
    None,
    "",
    "7",
    "7.0",
    "007",
    "11.00",
    "1.5",
    "-3.0",
    "-0.0",
    "é",
    "a,b",
    "x\ny",
    "1e5",
    ".5",
    "5.",
    " 7",
]
IDS = [None, "", "i,2", "i\x07", "12.0", "né", *(f"i{number}" for number in range(200))]
KEYS = [None, "", "k,1", *(f"k{number}" for number in range(20))]
LABELS = [None, "", "0", "0", "0", "1", "1.0", "true", "True", "false", "yes", "2"]
PARTS = ["train", "held", "test", "", None]
FIELDS: list[str | Line] = [
    "+city",
    "item",
    {"name": "tags", "multi": True},
    {"name": "langs", "level": "context", "multi": True},
]
FEATURES = {"city": "city", "item": "item", "tags": "tags", "langs": "langs"}
RULES: list[Line] = [
    {},
    {"test_fraction": 0.3},
    {"column": "part", "values": {"train": ["train"], "validation": ["held"], "test": ["test"]}},
]


def write_files(folder: Path) -> str:
    """Writes two files of texts, one in runs of one context and one in no order, and one of numbers."""
    random, table = np.random.default_rng(7), folder / "table"
    table.mkdir()

    def drawn(pool: list[Any], size: int) -> list[Any]:
        return [pool[place] for place in random.integers(0, len(pool), size)]

    def lists(pool: list[Any], size: int) -> list[Any]:
        return [None if length == 4 else drawn(pool, length) for length in random.integers(0, 5, size)]

    def of_context(values: list[Any], runs: bool) -> list[Any]:
        return [value for value in values for _ in range(3)] if runs else values

    for number, runs in enumerate((True, False)):
        contexts = 100 if runs else 300
        columns = {
            "id": drawn(IDS, 300),
            "user": of_context(drawn(KEYS, contexts), runs),
            "click": drawn(LABELS, 300),
            "order": drawn(["0", "0.0", None], 300),
            "part": of_context(drawn(PARTS, contexts), runs),
            "city": of_context(drawn(VALUES, contexts), runs),
            "item": drawn(VALUES, 300),
            "tags": lists(VALUES, 300),
            "langs": of_context(lists(VALUES, contexts), runs),
        }
        pq.write_table(pa.table(columns), table / f"{number}.parquet", row_group_size=70)
    numbers = {
        "id": pa.array(range(1000, 1300)),
        "user": pa.array(random.integers(0, 9, 300), pa.int16()),
        "click": pa.array(drawn([True, False, None], 300)),
        "order": pa.array(drawn([0, None], 300), pa.int8()),
        "part": pa.array(drawn(PARTS, 300), pa.string()),
        "city": pa.array(drawn([7, -3, None], 300)),
        "item": pa.array(drawn(["1", "2.0"], 300)).dictionary_encode(),
        "tags": pa.array(lists([1, 2, None], 300), pa.list_(pa.int32())),
        "langs": pa.array(lists(["a", "b"], 300), pa.list_(pa.string())),
    }
    pq.write_table(pa.table(numbers), table / "2.parquet")
    return str(table)


def config_of(folder: Path, path: str, splits: Line, **table: Any) -> Config:
    keys = {"features": FEATURES, "splits": splits, **table}
    if keys.get("context_key", "request") is not None:
        keys["on_difference"] = "most_frequent"
    return table_config(folder, path, FIELDS, **keys)


def plain_of(spark: SparkSession, config: Config) -> Plain | None:
    table = config.logs.table
    assert table is not None
    return find_plain(config, [(open_table(spark, table, table.path), Wanted(table, config.tasks))])


def lines_alike(lines: list[Line]) -> Counter[Any]:
    """Returns staged lines without what batches change, and without the split of a line that has no key."""
    names = ("key", "head", "num_tokens", "tokens", "num_bytes", "time_us", "reason", "note", "raw")
    return Counter(
        (line["split"] if line["reason"] is None else None, *(line[name] for name in names)) for line in lines
    )


def contexts_alike(lines: list[Line], config: Config) -> Counter[Any]:
    """Returns the contexts, and how many lines each has."""
    found: Counter[Any] = Counter()
    for line in lines:
        if line["context_lines"] is not None:
            texts = (line[text] for text in context_texts(config.features))
            found[(line["split"], line["key"], *texts)] += line["context_lines"]
    return found


def check_staged(spark: SparkSession, folder: Path, config: Config) -> set[str | None]:
    """Holds a plain table's staged lines and counts against Spark's; returns the reasons of its rejects."""
    table = config.logs.table
    assert table is not None
    plain = plain_of(spark, config)
    assert plain is not None
    folders = [str(folder / name) for name in ("lines", "contexts")]
    counted = write_plain(spark, plain, config, folders, "read it")
    assert counted is not None
    found, contexts = (pq.read_table(folder).to_pylist() for folder in folders)
    wanted = Wanted(table, config.tasks, as_they_stand=texts_made_later(config))
    lines = read_lines(open_table(spark, table, table.path), wanted)
    by_spark = staged_lines(lines, config).persist()
    expected = [row.asDict() for row in by_spark.collect()]
    assert lines_alike(found) == lines_alike(expected)
    assert contexts_alike(contexts, config) == contexts_alike(expected, config)
    counted_by_spark = count_staged(by_spark, len(config.features.fields))
    assert counted.fractions == counted_by_spark.fractions
    assert describe_source(counted.fates, "log") == describe_source(counted_by_spark.fates, "log")
    return {line["reason"] for line in found}


@pytest.mark.parametrize(("splits", "has_keys"), [*((rule, True) for rule in RULES), (RULES[1], False)])
def test_staged_lines_are_those_that_spark_makes(
    spark: SparkSession, tmp_path: Path, splits: Line, has_keys: bool
) -> None:
    keys = {} if has_keys else {"context_key": None}
    reasons = check_staged(spark, tmp_path, config_of(tmp_path, write_files(tmp_path), splits, **keys))
    of_splits = ["unknown_split"] if "column" in splits else []
    assert reasons == {None, "missing_id", "bad_id", "bad_label", *of_splits}


def csv_files(folder: Path) -> dict[str, bytes]:
    """Returns files whose lines end in three ways, with names in two orders, blank lines and a mark."""
    random, table = np.random.default_rng(8), dict[str, bytes]()
    values = [value for value in VALUES if value is None or ("," not in value and "\n" not in value)]
    pools: dict[str, list[Any]] = {
        "id": [value for value in IDS if value != "i,2"],
        "user": KEYS[:1] + KEYS[3:],
        "click": LABELS,
        "order": ["0", None],
        "city": values,
        "item": values,
        "note": ["x", " y "],
    }
    for number, (end, names) in enumerate((("\n", [*pools]), ("\r\n", [*reversed(pools)]))):
        lines = [",".join(names)]
        for _ in range(200):
            drawn = (pools[name][random.integers(0, len(pools[name]))] for name in names)
            lines.append(",".join(value or "" for value in drawn))
        table[f"{number}.csv"] = end.join(lines).encode()
    table["0.csv"] = b"\xef\xbb\xbf" + table["0.csv"] + b"\n\n"
    return table


def csv_config(folder: Path, files: dict[str, bytes]) -> Config:
    (folder / "log").mkdir()
    for name, content in files.items():
        (folder / "log" / name).write_bytes(content)
    fields: list[str | Line] = ["+city", "item"]
    keys = {"features": {"city": "city", "item": "item"}, "on_difference": "most_frequent"}
    return table_config(folder, str(folder / "log"), fields, file_format="csv", **keys)


def test_lines_of_plain_csv_are_those_that_spark_reads(spark: SparkSession, tmp_path: Path) -> None:
    reasons = check_staged(spark, tmp_path, csv_config(tmp_path, csv_files(tmp_path)))
    assert reasons == {None, "missing_id", "bad_id", "bad_label"}


@pytest.mark.parametrize(
    "content",
    [
        b'i900,k1,0,0,"a,b",7,x\n',
        b"i900,k1,0,0,a\n",
        b"i900,k1,0,0,\xff,7,x\n",
        b"i900,k1,0,0,a,7,x\ri901,k1,0,0,a,7,x\n",
    ],
)
def test_csv_that_is_not_plain_is_left_to_spark(spark: SparkSession, tmp_path: Path, content: bytes) -> None:
    names = b"id,user,click,order,city,item,note\n"
    config = csv_config(tmp_path, {**csv_files(tmp_path), "2.csv": names + content})
    plain = plain_of(spark, config)
    assert plain is not None
    folders = [str(tmp_path / name) for name in ("lines", "contexts")]
    assert write_plain(spark, plain, config, folders, "read it") is None
    manifest = preprocess(spark, config, read_table)
    assert manifest.sources[0].lines_read == 400 + 1 + (b"i901" in content)


def test_examples_and_counts_are_those_of_the_same_table_that_spark_reads(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = write_files(tmp_path)
    found = []
    for name, where in (("plain", None), ("spark", "true")):
        config = config_of(tmp_path / name, path, RULES[1], where=where)
        assert (plain_of(spark, config) is None) == (where is not None)
        manifest = preprocess(spark, config, read_table)
        examples = [impressions_of(spark, config, manifest, split) for split in ("train", "test")]
        found.append((examples, manifest.sources, {k: v.groups for k, v in manifest.partitions.items()}))
    assert found[0] == found[1]
    assert found[0][2]["split=test"] > 0


@pytest.mark.parametrize(
    "table",
    [
        {"time": "city", "time_unit": "s"},
        {"impression_id": {"concat": ["id", "user"]}},
        {"features": {**FEATURES, "city": {"expr": "upper(city)"}}},
        {"impression_id": None},
        {"samples": {"carry": {"city": "string"}}},
    ],
)
def test_what_needs_spark_is_left_to_it(spark: SparkSession, tmp_path: Path, table: Line) -> None:
    assert plain_of(spark, config_of(tmp_path, write_files(tmp_path), {}, **table)) is None


def test_a_line_that_was_not_read_is_missed(spark: SparkSession, tmp_path: Path) -> None:
    config = config_of(tmp_path, write_files(tmp_path), {})
    plain = plain_of(spark, config)
    assert plain is not None
    folders = [str(tmp_path / name) for name in ("lines", "contexts")]
    with pytest.raises(CountMismatchError, match=r"hold 901 lines .*, 900 were read"):
        write_plain(spark, plain._replace(size=901), config, folders, "read it")


def test_a_damaged_file_is_named_in_one_line(spark: SparkSession, tmp_path: Path) -> None:
    path = write_files(tmp_path)
    file = Path(path) / "1.parquet"
    content = bytearray(file.read_bytes())
    content[10:2000] = bytes(1990)
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"1\.parquet is no whole Parquet file: .*: write it again"):
        preprocess(spark, config_of(tmp_path, path, {}), read_table)
