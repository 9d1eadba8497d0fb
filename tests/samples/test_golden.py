"""A few raw lines by hand, and the rows that must come of them, value by value."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.schemas.columns import EXAMPLE_COLUMNS
from esmm_spark.samples.dataset import preprocess
from tests.samples.raw_lines import config_for, write_split

pytestmark = pytest.mark.spark

CONTEXTS = [
    b"c1,3,101\x02u1\x031.0\x01109\x027\x030.69315\x01109\x028\x031.5e-1",
    b"c2,0,\r",
    b"c3,0,",
]
IMPRESSIONS = [
    b"3,0,0,c1,0,",
    b"1,1,1,c1,3,301\x021\x032.0\x01205\x02caf\xc3\xa9\x031.0\x01301\x022\x031.0\r",
    b"2,1,0,c1,1,205\x027\x0350",
    b"4,0,0,c2,1,301\x022\x031",
    b"5,0,1,c2,0,",
    b"",
]

# `spec` of raw_lines: user has rows 0 to 99, item 100 to 149, pos 150 to 159. With h = xxhash64, seed 42:
#   h("user=u1")   = -6130981624424750554    row   0 + 1 + pmod(h, 99) = 24
#   h("item=7")    = -3466424260920417433    row 100 + 1 + pmod(h, 49) = 129
#   h("item=8")    =  6182770517735001643    row 100 + 1 + pmod(h, 49) = 120
#   h("item=café") = -6603938730715977087    row 100 + 1 + pmod(h, 49) = 119
#   h("pos=1")     =  -651151196018734020    row 150 + 1 + pmod(h, 9)  = 154
#   h("pos=2")     =   970102936517163508    row 150 + 1 + pmod(h, 9)  = 152
EXPECTED = [
    {
        "group_key": "c2",
        "group_hash": -6182938958382878839,  # h("c2#0")
        "impression_id": ["4"],
        "click": [0],
        "conversion": [0],
        "context_rows": [],
        "context_weights": [],
        "context_lengths": [0, 0],
        "impression_rows": [152],
        "impression_weights": [1.0],
        "impression_lengths": [0, 1],
    },
    {
        "group_key": "c1",
        "group_hash": 3969225326990859726,  # h("c1#1"): two impressions fill a part
        "impression_id": ["3"],
        "click": [0],
        "conversion": [0],
        "context_rows": [24, 129, 120],
        "context_weights": [1.0, 0.6931499838829041, 0.15000000596046448],
        "context_lengths": [1, 2],
        "impression_rows": [],
        "impression_weights": [],
        "impression_lengths": [0, 0],
    },
    {
        "group_key": "c1",
        "group_hash": 5249009391104724073,  # h("c1#0")
        "impression_id": ["1", "2"],
        "click": [1, 1],
        "conversion": [1, 0],
        "context_rows": [24, 129, 120],
        "context_weights": [1.0, 0.6931499838829041, 0.15000000596046448],
        "context_lengths": [1, 2],
        # Field 205 comes before 301, whatever the line's order; neither is weighted.
        "impression_rows": [119, 154, 152, 129],
        "impression_weights": [1.0, 1.0, 1.0, 1.0],
        "impression_lengths": [1, 2, 1, 0],
    },
]


def test_hand_written_lines_become_exactly_these_rows(spark: SparkSession, tmp_path: Path) -> None:
    logs = write_split(tmp_path, CONTEXTS, IMPRESSIONS)
    config = config_for(tmp_path, {"train": logs}, samples={"max_group_size": 2})
    manifest = preprocess(spark, config)

    dataset = Path(config.paths.dataset)
    files = sorted((dataset / "examples" / "split=train").iterdir())
    schemas = {file.name: pq.read_schema(file) for file in files}
    for schema in schemas.values():
        assert schema.names == list(EXAMPLE_COLUMNS)
        assert schema.field("click").type.value_type == pa.int8()
        assert schema.field("context_rows").type.value_type == pa.int32()
    tables = [pq.read_table(file, partitioning=None) for file in files]
    rows = sorted(pa.concat_tables(tables).to_pylist(), key=lambda row: row["group_hash"])
    assert rows == EXPECTED

    rejects = pq.read_table(dataset / "rejects", partitioning=None).to_pylist()
    assert rejects == [
        {"line": b"5,0,1,c2,0,", "source": "train.skeleton", "reason": "conversion_without_click"}
    ]
    contexts, impressions = manifest.sources
    assert (contexts.name, contexts.lines_read, contexts.lines_accepted) == ("train.common_features", 3, 3)
    assert contexts.notes == {"contexts_without_impressions": 1}
    assert (impressions.name, impressions.lines_read, impressions.lines_accepted) == ("train.skeleton", 5, 4)
    assert impressions.rejects == {"conversion_without_click": 1}
    assert impressions.notes == {"blank_lines": 1}
    counts = manifest.partitions["split=train"]
    assert (counts.groups, counts.impressions, counts.positives["click"], counts.positives["conversion"]) == (
        3,
        4,
        2,
        1,
    )
    assert (counts.context_tokens, counts.impression_tokens) == (6, 5)
    assert counts.group_hash_sum == -6182938958382878839 + 3969225326990859726 + 5249009391104724073


def test_spark_reads_the_examples_with_the_types_of_the_contract(spark: SparkSession, tmp_path: Path) -> None:
    config = config_for(tmp_path, {"train": write_split(tmp_path, CONTEXTS, IMPRESSIONS)})
    preprocess(spark, config)
    examples = spark.read.parquet(f"{config.paths.dataset}/examples")
    types = dict(examples.dtypes)
    assert types == {
        "group_key": "string",
        "group_hash": "bigint",
        "impression_id": "array<string>",
        "click": "array<tinyint>",
        "conversion": "array<tinyint>",
        "context_rows": "array<int>",
        "context_weights": "array<float>",
        "context_lengths": "array<int>",
        "impression_rows": "array<int>",
        "impression_weights": "array<float>",
        "impression_lengths": "array<int>",
        "split": "string",
    }
    assert examples.count() == 2
