"""Packed lines come out as the plain sort has them, however blocks, records and batches cut them."""

from collections.abc import Sequence
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esmm_spark.logs.lines import CONTEXT, IMPRESSION, Lines, lines_of
from esmm_spark.samples.hashing.held_out import HeldOut
from esmm_spark.samples.lines import packing as packing_module
from esmm_spark.samples.lines.merging import LineMerger, merged_lines
from esmm_spark.samples.lines.packing import PACKED_COLUMNS, pack_lines
from esmm_spark.samples.lines.sorting import packing
from tests.samples.grouping.test_grouper import contexts, impressions
from tests.samples.raw_lines import context, impression, token

HELD_OUT = HeldOut("split=validation", 0.5, 3)
NAMES = [column.split()[0] for column in PACKED_COLUMNS.split(", ")]


def pack(lines: Sequence[tuple[int, bytes]], block_size: int = 1000, num_buckets: int = 0) -> pa.Table:
    blocks = [
        lines_of(
            pa.record_batch(
                [
                    pa.array([kind for kind, _ in lines[start : start + block_size]], type=pa.int8()),
                    pa.array([line for _, line in lines[start : start + block_size]], type=pa.binary()),
                ],
                names=["kind", "line"],
            )
        )
        for start in range(0, len(lines), block_size)
    ]
    return pa.Table.from_batches(pack_lines(blocks, packing(HELD_OUT, num_buckets, 2)))


def shuffle(records: pa.Table) -> list[dict[str, bytes | int]]:
    """Returns the records as Spark sorts them."""
    found = [
        {name: column[i] for name, column in columns.items()}
        for columns in [
            {
                name: records[name].cast(pa.binary()).to_pylist()
                if records[name].type == pa.string()
                else records[name].to_pylist()
                for name in NAMES
            }
        ]
        for i in range(records.num_rows)
    ]
    return sorted(
        found,
        key=lambda record: (record["place"], record["key"] or b"", record["kind"], record["first"] or b""),
    )


def merge(
    records: list[dict[str, bytes | int]], batch_size: int
) -> tuple[list[tuple[int, bytes]], LineMerger]:
    merger = LineMerger()
    batches = []
    for start in range(0, len(records), batch_size):
        of_batch = records[start : start + batch_size]
        columns = []
        for name in NAMES:
            values = [record[name] for record in of_batch]
            if name in ("place", "kind"):
                columns.append(pa.array(values, type=pa.int64() if name == "place" else pa.int8()))
            else:
                raw = pa.array(values, type=pa.binary())
                columns.append(pa.StringArray.from_buffers(len(raw), *raw.buffers()[1:], raw.buffers()[0]))
        batches.append(pa.record_batch(columns, names=NAMES))
    found = [line for lines in merged_lines(batches, merger) for line in texts(lines)]
    return found, merger


def texts(lines: Lines) -> list[tuple[int, bytes]]:
    return [
        (int(kind), lines.data[start:end].tobytes())
        for kind, start, end in zip(lines.kind, lines.starts, lines.ends, strict=True)
    ]


def key_of(kind: int, line: bytes) -> bytes:
    columns = line.split(b",")
    return columns[0] if kind == CONTEXT else columns[min(3, len(columns) - 1)]


def place_of(key: bytes) -> int:
    held_out = signed(b"3#" + key) % 1_000_000 < 500_000
    return signed(key) & (2**63 - 1) | (-(2**63) if held_out else 0)


def signed(text: bytes) -> int:
    number = xxhash.xxh64_intdigest(text, seed=42)
    return number - 2**64 if number >= 2**63 else number


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.just(CONTEXT), contexts), max_size=8),
    st.lists(st.tuples(st.sampled_from([IMPRESSION, 2]), impressions), max_size=40),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 3, 10, 1000]),
    st.sampled_from([1, 60, 200, 1 << 16]),
    st.sampled_from([1, 2, 5, 1000]),
)
@pytest.mark.slow
def test_lines_come_out_sorted_whatever_the_blocks_records_and_batches(
    context_lines: list[tuple[int, bytes]],
    impression_lines: list[tuple[int, bytes]],
    random: object,
    block_size: int,
    record_bytes: int,
    batch_size: int,
) -> None:
    lines = context_lines + impression_lines
    random.shuffle(lines)  # type: ignore[attr-defined]
    with mock.patch.object(packing_module, "_RECORD_BYTES", record_bytes):
        records = pack(lines, block_size)
    found, merger = merge(shuffle(records), batch_size)
    kept = [(kind, line) for kind, line in lines if line not in (b"", b"\r")]
    assert found == sorted(kept, key=lambda item: (place_of(key_of(*item)), key_of(*item), item[0], item[1]))
    for number, of_kind in enumerate(([CONTEXT], [IMPRESSION, 2])):
        chosen = [line for kind, line in lines if kind in of_kind]
        blank = sum(line in (b"", b"\r") for line in chosen)
        assert merger.read[number].tolist() == [len(chosen) - blank, blank, sum(map(len, chosen))]


def test_a_sorted_log_is_packed_group_by_group_and_not_copied() -> None:
    lines = [(IMPRESSION, impression(f"{i:04d}", f"c{i // 50}", token("205", "1"))) for i in range(500)]
    records = pack(lines)
    assert records.num_rows == 10 + 1
    assert len({record["key"] for record in shuffle(records) if record["key"]}) == 10


def test_of_a_group_of_any_size_no_more_is_held_than_rows_overlap() -> None:
    lines = [(CONTEXT, context("k"))] + [(IMPRESSION, impression(f"{i:06d}", "k")) for i in range(20_000)]
    with mock.patch.object(packing_module, "_RECORD_BYTES", 1000):
        records = pack(lines, block_size=5_000)
    merger, most = LineMerger(), 0
    batches = records.filter(pa.compute.less(records["kind"], 3)).to_batches(max_chunksize=20)
    num_lines = 0
    for batch in batches:
        num_lines += sum(len(found.starts) for found in merger.take(batch))
        most = max(most, sum(len(part.data) for part in merger._held))
    num_lines += sum(len(found.starts) for found in merger.finish())
    assert num_lines == len(lines)
    assert most < 25_000, "a batch is 20,000 bytes, the group 400,000"


@pytest.mark.parametrize("block_size", [1, 4, 1000])
@pytest.mark.slow
def test_an_id_under_several_keys_is_seen_wherever_its_lines_stand(block_size: int) -> None:
    clean = [(IMPRESSION, impression(str(i), f"c{i // 7}")) for i in range(900)]
    clean += clean[:5]  # the same id twice under one key is the grouping's to find
    assert not merge(shuffle(pack(clean, block_size, 16)), 50)[1].ids.has_several_keys
    dirty = [*clean, (IMPRESSION, impression("17", "c9"))]
    assert merge(shuffle(pack(dirty, block_size, 16)), 50)[1].ids.has_several_keys


def test_the_table_of_ids_knows_all_of_them_after_it_has_grown() -> None:
    pairs = np.arange(100_000, dtype=np.int64).reshape(-1, 2)
    merger = LineMerger()
    for start in range(0, len(pairs), 999):
        merger.ids.add(pairs[start : start + 999])
    merger.ids.add(pairs)
    assert not merger.ids.has_several_keys
    merger.ids.add(pairs[-1:] + np.array([0, 1]))
    assert merger.ids.has_several_keys
