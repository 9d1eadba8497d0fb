"""Row groups are even and of the wanted size, and the counts are those of the files."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm_spark.contracts.impressions import DEFAULT_COLUMNS
from esmm_spark.contracts.manifest import PartitionCounts
from esmm_spark.contracts.sample_config import Compression, Samples
from esmm_spark.samples.example_files import ExamplesWriter, RejectsWriter, _cuts
from esmm_spark.samples.examples import _commit
from esmm_spark.samples.grouping.batches import group_bytes
from esmm_spark.samples.plan import GroupingPlan, GroupingReport, LineCounts
from tests.samples.grouping.test_grouper import run
from tests.samples.raw_lines import SPEC, context, impression, token


def examples_of(num_groups: int, size: int = 20) -> pa.Table:
    """Returns groups of one to `size` impressions, some without any token."""
    contexts = [
        context(f"k{g:05d}", *[token("109", str(v)) for v in range(g % 7)]) for g in range(num_groups)
    ]
    impressions = [
        impression(f"{g}-{i}", f"k{g:05d}", *[token("301", str(p)) for p in range((g + i) % 3)], click=i % 2)
        for g in range(num_groups)
        for i in range(1 + g % size)
    ]
    groups, _, grouper = run(contexts, impressions)
    return pa.Table.from_pylist(list(groups.values()), grouper.schema)


def write(
    folder: Path, table: pa.Table, row_group_bytes: int, batch_rows: int, compression: Compression = "lz4"
) -> PartitionCounts | None:
    writer = ExamplesWriter(str(folder), "part-0.parquet", table.schema, row_group_bytes, compression)
    for batch in table.to_batches(max_chunksize=batch_rows):
        writer.write(batch)
    return writer.close()


@pytest.mark.parametrize("batch_rows", [1, 17, 10_000])
def test_row_groups_are_even_and_their_counts_come_from_the_footer(tmp_path: Path, batch_rows: int) -> None:
    table = examples_of(400)
    wanted = 16 << 10
    counts = write(tmp_path, table, wanted, batch_rows)
    assert counts is not None
    (file,) = counts.files
    assert pq.read_table(tmp_path / "part-0.parquet") == table
    metadata = pq.read_metadata(tmp_path / "part-0.parquet")
    assert file.groups == [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    sizes = [len(row) for row in table["impression_id"].to_pylist()]
    ends = np.cumsum([0, *file.groups])
    assert file.impressions == [sum(sizes[a:b]) for a, b in pairwise(ends)]
    bytes_of_row = np.concatenate([group_bytes(batch) for batch in table.to_batches()])
    of_row_groups = [int(bytes_of_row[a:b].sum()) for a, b in pairwise(ends)]
    assert len(of_row_groups) > 5
    assert min(of_row_groups) > 0.45 * wanted
    assert max(of_row_groups) < 1.1 * wanted
    assert (counts.groups, counts.impressions) == (400, sum(sizes))
    assert counts.positives == {
        "click": sum(map(sum, table["click"].to_pylist())),
        "conversion": sum(map(sum, table["conversion"].to_pylist())),
    }
    assert counts.context_tokens == sum(map(len, table["context_rows"].to_pylist()))
    assert counts.impression_tokens == sum(map(len, table["impression_rows"].to_pylist()))
    with np.errstate(over="ignore"):
        assert counts.group_hash_sum == table["group_hash"].to_numpy().sum()


def test_without_rows_there_is_no_file(tmp_path: Path) -> None:
    table = examples_of(1)
    assert write(tmp_path, table.slice(0, 0), 1000, 10) is None
    assert not list(tmp_path.iterdir())


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 200), st.booleans())
@settings(max_examples=300)
@pytest.mark.slow
def test_cuts_take_each_row_once_and_leave_no_small_rest(sizes: list[int], wanted: int, at_end: bool) -> None:
    ends = np.cumsum(sizes)
    cuts = list(_cuts(ends, wanted, at_end))
    assert cuts == sorted(set(cuts))
    assert not cuts or cuts[-1] <= len(sizes)
    if at_end:
        assert cuts[-1] == len(sizes)
    of_groups = np.diff([0, *[int(ends[cut - 1]) for cut in cuts]])
    if at_end and len(of_groups) > 1:
        # Half of what is wanted, less one row that lies across the cut.
        assert min(of_groups) >= wanted / 2 - max(sizes)
    assert all(size < wanted + max(sizes) for size in of_groups)


def test_rejects_of_any_number_are_kept_as_bytes(tmp_path: Path) -> None:
    writer = RejectsWriter(str(tmp_path), "part-0.parquet")
    lines = [b"\xff" * 1_000_000 + bytes([i]) for i in range(20)]
    for line in lines:
        writer.write(pa.record_batch([[line], ["s"], ["bad_token"]], names=["line", "source", "reason"]))
    assert writer.close() == "part-0.parquet"
    table = pq.read_table(tmp_path / "part-0.parquet")
    assert table["line"].to_pylist() == lines
    assert pq.read_metadata(tmp_path / "part-0.parquet").num_row_groups > 1


@pytest.mark.parametrize(("compression", "codec"), [("lz4", "LZ4"), ("zstd", "ZSTD")])
def test_every_codec_keeps_the_rows(tmp_path: Path, compression: Compression, codec: str) -> None:
    table = examples_of(100)
    assert write(tmp_path, table, 16 << 10, 17, compression) is not None
    metadata = pq.read_metadata(tmp_path / "part-0.parquet")
    columns = {metadata.row_group(0).column(index).compression for index in range(metadata.num_columns)}
    assert columns == {codec}
    assert pq.read_table(tmp_path / "part-0.parquet") == table


def test_only_what_a_successful_attempt_reported_stays(tmp_path: Path) -> None:
    table = examples_of(10)
    plan = GroupingPlan(
        SPEC,
        DEFAULT_COLUMNS,
        str(tmp_path),
        "split=train",
        "train",
        Samples(),
    )
    folder = tmp_path / "examples" / "split=train"
    folder.mkdir(parents=True)
    (tmp_path / "rejects").mkdir()
    (tmp_path / "rejects" / "test-none.parquet").write_bytes(b"another split's")
    # Task 0 failed once after it had written all; task 1 ran twice at once and one of the two was stopped.
    for name in ("part-00000.1", "part-00000.4", "part-00001.2", "part-00001.3"):
        path = f"examples/split=train/{name}.parquet"
        writer = ExamplesWriter(str(tmp_path), path, table.schema, 1 << 20, "lz4")
        writer.write(table.to_batches()[0])
        written = writer.close()
        assert written is not None
        if name == "part-00000.4":
            first = written
        if name == "part-00001.2":
            second = written
    (folder / "part-00001.9.parquet").write_bytes(b"half a file")
    lines = LineCounts(by_reason=[[1], [1]], unknown_tokens=[0, 0], cut_tokens=0, idle_contexts=0)
    reports = [
        GroupingReport(
            task=task,
            several_keys=False,
            read=[[0, 0, 0], [0, 0, 0]],
            lines=lines,
            partitions={"split=train": counts},
            rejects_file=None,
        )
        for task, counts in enumerate((first, second))
    ]
    partitions, _ = _commit(plan, reports)
    assert sorted(path.name for path in folder.iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    assert sorted(path.name for path in (tmp_path / "rejects").iterdir()) == [
        "test-none.parquet",
        "train-none.parquet",
    ]
    counts = partitions["split=train"]
    assert [file.path for file in counts.files] == [
        "examples/split=train/part-00000.parquet",
        "examples/split=train/part-00001.parquet",
    ]
    assert counts.groups == 20
