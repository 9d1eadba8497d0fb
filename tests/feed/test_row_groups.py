"""Row groups read one after the other, as scoring does; refused where the manifest says otherwise."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.manifest import PartitionCounts
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import row_groups_of
from esmm_spark.feed.row_groups import read_row_groups
from tests.synthetic_examples import SPEC, of_before, random_groups, write_partition

GROUPS = random_groups(30, seed=5)
LAYOUT = Layout(SPEC, for_scoring=True)


@pytest.fixture
def counts(tmp_path: Path) -> PartitionCounts:
    return write_partition(tmp_path, "split=test", GROUPS, [[10, 5], [8, 7]])


def size_of(first: int, last: int) -> int:
    return sum(len(group["click"]) for group in GROUPS[first:last])


def test_row_groups_of_several_files_are_read_in_order(tmp_path: Path, counts: PartitionCounts) -> None:
    found = list(read_row_groups(str(tmp_path), row_groups_of(counts)[1:], LAYOUT))
    assert [len(groups.keys) for groups in found] == [5, 8, 7]
    assert [key for groups in found for key in groups.keys.to_pylist()] == [
        group["group_key"] for group in GROUPS[10:]
    ]
    assert [groups.ids.to_pylist() for groups in found if groups.ids is not None] == [
        [i for group in part for i in group["impression_id"]]
        for part in (GROUPS[10:15], GROUPS[15:23], GROUPS[23:])
    ]
    for task, name in enumerate(("click", "conversion")):
        labels = [label for groups in found for label in groups.labels[task].tolist()]
        assert labels == [label for group in GROUPS[10:] for label in group[name]]
    rows = [row for groups in found for row in groups.context.tokens.rows.tolist()]
    assert rows == [row for group in GROUPS[10:] for row in group["context_rows"]]


def test_a_row_group_of_other_groups_than_the_manifests_is_refused(
    tmp_path: Path, counts: PartitionCounts
) -> None:
    second, found = row_groups_of(counts)[1], size_of(10, 15)
    for wrong in (replace(second, impressions=found + 1), replace(second, groups=6)):
        with pytest.raises(
            InputError,
            match=rf"part-00000\.parquet, row group 1: it has 5 groups with {found} impressions, the "
            rf"manifest says {wrong.groups} with {wrong.impressions}; .*: preprocess again",
        ):
            list(read_row_groups(str(tmp_path), [wrong], LAYOUT))
    with pytest.raises(InputError, match=r"part-00000\.parquet, row group 2: the file has 2 row groups; "):
        list(read_row_groups(str(tmp_path), [replace(second, index=2)], LAYOUT))


def test_a_file_with_other_columns_is_refused(tmp_path: Path, counts: PartitionCounts) -> None:
    row_groups = row_groups_of(of_before(counts))[:1]
    file = tmp_path / row_groups[0].path
    table = pq.read_table(file)
    index = table.column_names.index("click")
    pq.write_table(table.set_column(index, "click", pa.array([["0"]] * table.num_rows)), file)
    with pytest.raises(InputError, match=r"column click is list<element: string>, not list<item: int8>; "):
        list(read_row_groups(str(tmp_path), row_groups, LAYOUT))
    pq.write_table(table.drop_columns(["click"]), file)
    with pytest.raises(InputError, match=r"part-00000\.parquet: it has no column click; "):
        list(read_row_groups(str(tmp_path), row_groups, LAYOUT))
    file.unlink()
    with pytest.raises(InputError, match=r"part-00000\.parquet is missing: preprocess again"):
        list(read_row_groups(str(tmp_path), row_groups, LAYOUT))
