"""The feed against a plain reading of the same files, over ranks, threads and first steps; damaged files."""

import os
import pickle
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from esmm_spark.contracts.errors import InputError, UnsafeFileError
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.contracts.train_config import ReaderName
from esmm_spark.feed.batch import Batch, batch_of
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import EpochPlan, row_groups_of
from esmm_spark.feed.reader import open_feed
from esmm_spark.files.manifest_file import read_manifest
from tests.synthetic_examples import (
    SPEC,
    of_before,
    random_groups,
    write_dataset,
    write_partition,
    write_small_dataset,
)

TRAIN = "split=train"
NUM_STREAMS, BATCH_SIZE = 4, 100
_reader: ReaderName = "petastorm"

Bag = tuple[tuple[int, float], ...]
# key, bags of the context, bags of the impression, click, conversion
Impression = tuple[str, tuple[Bag, ...], tuple[Bag, ...], int, int]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("feed") / "dataset"
    return folder, write_small_dataset(folder)


@pytest.fixture(params=["petastorm", "arrow"], autouse=True)
def _each_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test of this file is of both readers."""
    monkeypatch.setattr(sys.modules[__name__], "_reader", request.param)


def plan_of(manifest: Manifest, epoch: int = 0, batch_size: int = BATCH_SIZE) -> EpochPlan:
    return EpochPlan(row_groups_of(manifest.partitions[TRAIN]), NUM_STREAMS, batch_size, 42, epoch)


def batches_of(
    dataset: tuple[Path, Manifest], rank: int = 0, num_ranks: int = 1, first_step: int = 0, threads: int = 1
) -> list[Batch]:
    return batches_by(_reader, dataset, rank, num_ranks, first_step, threads)


def batches_by(
    reader: ReaderName,
    dataset: tuple[Path, Manifest],
    rank: int,
    num_ranks: int,
    first_step: int,
    threads: int,
) -> list[Batch]:
    folder, manifest = dataset
    plan = plan_of(manifest)
    with open_feed(str(folder), Layout(SPEC), plan, rank, num_ranks, first_step, threads, reader) as batches:
        return list(batches)


def plain_impressions(rows: list[dict[str, Any]]) -> list[Impression]:
    """The impressions of examples as Python lists, weights of `mean` fields divided by the bag's length."""

    def bags(row: dict[str, Any], level: str) -> list[Bag]:
        fields = SPEC.context_fields if level == "context" else SPEC.impression_fields
        tokens = iter(zip(row[f"{level}_rows"], row[f"{level}_weights"], strict=True))
        result = []
        for index, length in enumerate(row[f"{level}_lengths"]):
            divisor = length if fields[index % len(fields)].pooling == "mean" else 1
            bag = [next(tokens) for _ in range(length)]
            result.append(tuple((r, float(np.float32(w) / np.float32(divisor))) for r, w in bag))
        return result

    impressions = []
    for row in rows:
        context, own = tuple(bags(row, "context")), bags(row, "impression")
        width = len(SPEC.impression_fields)
        for i, (click, conversion) in enumerate(zip(row["click"], row["conversion"], strict=True)):
            impressions.append(
                (row["group_key"], context, tuple(own[i * width : (i + 1) * width]), click, conversion)
            )
    return impressions


def impressions_of(batch: Batch) -> list[Impression]:
    """The impressions of a batch, in its order."""

    def bags(rows: torch.Tensor, weights: torch.Tensor, lengths: torch.Tensor) -> list[Bag]:
        tokens = iter(zip(rows.tolist(), weights.tolist(), strict=True))
        return [tuple(next(tokens) for _ in range(length)) for length in lengths.tolist()]

    contexts = bags(batch.context_rows, batch.context_weights, batch.context_lengths)
    own = bags(batch.impression_rows, batch.impression_weights, batch.impression_lengths)
    num_context, num_own = len(SPEC.context_fields), len(SPEC.impression_fields)
    result: list[Any] = []
    for group, (key, size) in enumerate(zip(batch.group_keys, batch.group_sizes.tolist(), strict=True)):
        for _ in range(size):
            i = len(result)
            result.append(
                (
                    key,
                    tuple(contexts[group * num_context : (group + 1) * num_context]),
                    tuple(own[i * num_own : (i + 1) * num_own]),
                    int(batch.labels[0, i]),
                    int(batch.labels[1, i]),
                )
            )
    return result


def plain_batches(dataset: tuple[Path, Manifest]) -> Iterator[list[Impression]]:
    """The steps of one rank, read row group by row group with pyarrow."""
    folder, manifest = dataset
    plan = plan_of(manifest)
    streams: dict[int, list[Impression]] = {s: [] for s in range(NUM_STREAMS)}
    for read in plan.reads(0, 1):
        row_group = plan.row_groups[read.row_group]
        rows = pq.ParquetFile(folder / row_group.path).read_row_group(row_group.index).to_pylist()
        streams[read.stream] += plain_impressions(rows)[read.start : read.stop]
    for step in range(plan.num_steps):
        batch = []
        for stream, waiting in streams.items():
            count = plan.impressions_of_stream(step, stream)
            batch += waiting[:count]
            del waiting[:count]
        yield batch


@pytest.mark.slow
def test_batches_equal_a_plain_reading_of_the_same_row_groups(dataset: tuple[Path, Manifest]) -> None:
    expected = list(plain_batches(dataset))
    found = [impressions_of(batch) for batch in batches_of(dataset)]
    assert len(found) == len(expected) == plan_of(dataset[1]).num_steps
    for step, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours == theirs, step


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
def test_every_impression_comes_exactly_once_on_any_number_of_ranks(
    dataset: tuple[Path, Manifest], num_ranks: int
) -> None:
    folder, manifest = dataset
    counts = manifest.partitions[TRAIN]
    assert len({size for file in counts.files for size in file.impressions}) > 3  # uneven
    rows = [row for file in counts.files for row in pq.read_table(folder / file.path).to_pylist()]
    by_rank = [batches_of(dataset, rank, num_ranks) for rank in range(num_ranks)]
    assert {len(batches) for batches in by_rank} == {plan_of(manifest).num_steps}
    everything = [batch for batches in by_rank for batch in batches]
    assert Counter(i for batch in everything for i in impressions_of(batch)) == Counter(
        plain_impressions(rows)
    )
    hashes = [h for batch in everything for h in batch.group_hash[batch.starts_group].tolist()]
    assert sorted(hashes) == sorted(row["group_hash"] for row in rows)


@pytest.mark.parametrize(("first_step", "ranks_after"), [(1, 1), (7, 2), (19, 3)])
def test_a_feed_opened_at_a_step_gives_the_same_rest(
    dataset: tuple[Path, Manifest], first_step: int, ranks_after: int
) -> None:
    whole = [Counter(impressions_of(batch)) for batch in batches_of(dataset)][first_step:]
    parts = [batches_of(dataset, rank, ranks_after, first_step) for rank in range(ranks_after)]
    rest = [Counter(i for batch in step for i in impressions_of(batch)) for step in zip(*parts, strict=True)]
    assert rest == whole


def test_nothing_is_left_after_the_last_step(dataset: tuple[Path, Manifest]) -> None:
    assert batches_of(dataset, first_step=plan_of(dataset[1]).num_steps) == []


def test_more_reader_threads_change_nothing(dataset: tuple[Path, Manifest]) -> None:
    alone = [impressions_of(batch) for batch in batches_of(dataset)]
    assert [impressions_of(batch) for batch in batches_of(dataset, threads=4)] == alone


@pytest.mark.slow
def test_many_small_row_groups_come_in_order_from_many_threads(tmp_path: Path) -> None:
    groups = random_groups(300, seed=5, max_size=3)
    counts = write_partition(tmp_path, TRAIN, groups, [[1] * 150, [1] * 150])
    small = (tmp_path, write_dataset(tmp_path, {TRAIN: counts}))
    found = [impressions_of(batch) for batch in batches_of(small, threads=8)]
    assert found == list(plain_batches(small))


def test_a_rank_without_a_stream_gets_empty_batches_of_the_right_types(
    dataset: tuple[Path, Manifest],
) -> None:
    full, empty = batches_of(dataset)[0], batches_of(dataset, rank=4, num_ranks=5)[0]
    assert empty.num_impressions == 0
    assert empty.group_keys == []
    names = [name for name, value in vars(full).items() if isinstance(value, torch.Tensor)]
    assert {n: getattr(empty, n).dtype for n in names} == {n: getattr(full, n).dtype for n in names}
    assert all(getattr(empty, name).numel() == 0 for name in names)


def test_batches_own_their_memory(dataset: tuple[Path, Manifest]) -> None:
    batch = batches_of(dataset)[0]
    batch.context_weights.mul_(2)
    batch.labels.zero_()
    assert batches_of(dataset)[0].labels[0].sum() > 0


def test_rows_are_64_bit_only_where_the_arena_needs_it() -> None:
    content = SPEC.model_dump(mode="json")
    content["tables"]["item"]["num_buckets"] = 2**31
    assert batch_of([], Layout(SPEC)).context_rows.dtype == torch.int32
    assert batch_of([], Layout(type(SPEC).model_validate(content))).context_rows.dtype == torch.int64


def small_dataset(folder: Path, checksums: bool = True, **columns: Any) -> tuple[Path, Manifest]:
    """Two files of one row group each; `columns` overwrite those of the second file's second group."""
    groups = random_groups(20, seed=7)
    counts = write_partition(folder, TRAIN, groups, [[10], [10]])
    if columns:
        groups[11].update(columns)
        for file, changed in zip(
            counts.files, write_partition(folder, TRAIN, groups, [[10], [10]]).files, strict=True
        ):
            file.num_bytes, file.checksums = changed.num_bytes, changed.checksums
    return folder, write_dataset(folder, {TRAIN: counts if checksums else of_before(counts)})


SECOND_FILE = "examples/split=train/part-00001.parquet"


def read_all_on_two_ranks(dataset: tuple[Path, Manifest]) -> None:
    for rank in range(2):
        batches_of(dataset, rank, 2)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    path = tmp_path / SECOND_FILE
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"part-00001\.parquet: .*truncated, corrupt.*preprocess again"):
        read_all_on_two_ranks(dataset)


def test_a_file_with_damaged_pages_is_named(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    path = tmp_path / SECOND_FILE
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 3] = b"\xff" * (len(content) // 3 - 4)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"part-00001\.parquet, row group 0: .*preprocess again"):
        read_all_on_two_ranks(dataset)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    (tmp_path / SECOND_FILE).unlink()
    with pytest.raises(InputError, match=r"part-00001\.parquet is missing: preprocess again"):
        read_all_on_two_ranks(dataset)


def test_a_file_with_other_groups_than_the_manifest_says_is_named(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path, checksums=False)
    table = pq.read_table(tmp_path / SECOND_FILE)
    pq.write_table(table.slice(0, 9), tmp_path / SECOND_FILE)
    with pytest.raises(
        InputError, match=r"part-00001\.parquet, row group 0: it has 9 groups .*manifest says 10"
    ):
        read_all_on_two_ranks(dataset)


def test_a_file_without_the_manifests_row_group_is_named(tmp_path: Path) -> None:
    groups = random_groups(20, seed=7)
    counts = write_partition(tmp_path, TRAIN, groups, [[10, 10]])
    dataset = (tmp_path, write_dataset(tmp_path, {TRAIN: of_before(counts)}))
    path = tmp_path / "examples/split=train/part-00000.parquet"
    pq.write_table(pq.read_table(path), path)
    with pytest.raises(InputError, match=r"part-00000\.parquet has no row group 1.*preprocess again"):
        read_all_on_two_ranks(dataset)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"context_lengths": [1, 1]}, "2 x context_lengths where 3 belong"),
        ({"context_rows": [0]}, "1 x context_rows and .* x context_weights"),
        ({"context_lengths": [-1, 1, 1]}, "holds a negative number"),
        ({"impression_rows": [10**6], "impression_weights": [1.0]}, "x impression_rows and 1 x"),
        ({"click": [1]}, ". x conversion, 1 impressions"),
        ({"impression_weights": None}, "impression_weights is missing in 1 of 10 groups"),
    ],
)
def test_groups_whose_lists_do_not_fit_are_refused(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    dataset = small_dataset(tmp_path, **columns)
    with pytest.raises(InputError, match=rf"part-00001\.parquet, row group 0: .*{message}"):
        read_all_on_two_ranks(dataset)


def test_a_row_outside_of_the_arena_is_refused_with_its_group(tmp_path: Path) -> None:
    group = random_groups(20, seed=7)[11]
    rows = [SPEC.num_rows, *group["impression_rows"][1:]]
    dataset = small_dataset(tmp_path, impression_rows=rows)
    with pytest.raises(InputError, match=r"'context-7-11' has impression_rows outside .* 0 to 319"):
        read_all_on_two_ranks(dataset)


def test_a_conversion_without_a_click_is_refused(tmp_path: Path) -> None:
    size = len(random_groups(20, seed=7)[11]["click"])
    dataset = small_dataset(tmp_path, click=[0] * size, conversion=[1] * size)
    with pytest.raises(InputError, match="a conversion without a click"):
        read_all_on_two_ranks(dataset)


class _Touch:
    """Unpickling it creates a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.path, "w")


def test_a_pickled_schema_is_refused_and_never_opened(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "dataset")
    proof = tmp_path / "unpickled"
    schema = pq.read_schema(dataset[0] / SECOND_FILE).with_metadata(
        {b"dataset-toolkit.unischema.v1": pickle.dumps(_Touch(str(proof)))}
    )
    for folder in ("", "examples", "examples/split=train"):
        pq.write_metadata(schema, dataset[0] / folder / "_common_metadata")
    # Even where the caller did not look for it first.
    read_all_on_two_ranks(dataset)
    assert not proof.exists()
    with pytest.raises(UnsafeFileError, match="_common_metadata"):
        read_manifest(str(dataset[0]))


def test_a_pickle_in_a_files_own_metadata_is_never_opened(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "dataset", checksums=False)
    proof = tmp_path / "unpickled"
    path = dataset[0] / SECOND_FILE
    table = pq.read_table(path)
    metadata = {b"dataset-toolkit.unischema.v1": pickle.dumps(_Touch(str(proof)))}
    pq.write_table(pa.Table.from_batches(table.to_batches(), table.schema.with_metadata(metadata)), path)
    read_all_on_two_ranks(dataset)
    assert not proof.exists()
