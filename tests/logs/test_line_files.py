"""Lines read by ranges of bytes are those of the whole file, each once."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm_spark.contracts.errors import InputError
from esmm_spark.logs.line_files import FileRange, file_ranges, plain_paths, ranges_per_task, read_blocks
from esmm_spark.logs.lines import IMPRESSION


def lines_in(path: Path, range_bytes: int, block_bytes: int) -> list[bytes]:
    size = path.stat().st_size
    found = []
    for start in range(0, size, range_bytes):
        span = FileRange(str(path), start, min(start + range_bytes, size), IMPRESSION)
        for lines in read_blocks(span, block_bytes):
            assert set(lines.kind) <= {IMPRESSION}
            found += [lines.data[s:e].tobytes() for s, e in zip(lines.starts, lines.ends, strict=True)]
    return found


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"", b"\r", b"a", b"bc\r", b"\xff\x00", b"d" * 20]), max_size=30),
    st.booleans(),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_each_line_is_read_once_without_a_byte_order_mark_however_the_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[bytes],
    ends_with_a_line_feed: bool,
    mark: bytes,
    range_bytes: int,
    block_bytes: int,
) -> None:
    content = b"\n".join(lines) + (b"\n" if ends_with_a_line_feed else b"")
    path = tmp_path_factory.mktemp("lines") / "part-0"
    path.write_bytes(mark + content)
    expected = content.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert lines_in(path, range_bytes, block_bytes) == expected


def test_a_file_that_its_disk_refuses_is_named_with_the_place() -> None:
    # The kernel answers as it does for a broken disk: nothing is mapped at address 0.
    with pytest.raises(
        InputError, match=r"can't read /proc/self/mem, bytes 0 to 10: Input/output error: mend"
    ):
        list(read_blocks(FileRange("/proc/self/mem", 0, 10, IMPRESSION)))


def test_ranges_cover_every_byte_once(tmp_path: Path) -> None:
    sizes = {"a": 0, "b": 1, "c": 100, "d": 101}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(b"x" * size)
    ranges = file_ranges([(str(tmp_path / name), IMPRESSION) for name in sizes], block_bytes=50)
    covered = [(span.path[-1], byte) for span in ranges for byte in range(span.start, span.end)]
    assert sorted(covered) == [(name, byte) for name, size in sizes.items() for byte in range(size)]
    assert len(ranges) == 1 + 2 + 3


def test_tasks_share_out_all_ranges_in_order() -> None:
    ranges = [
        FileRange("f", start, start + size, IMPRESSION) for start, size in enumerate([5, 1, 4, 9, 1, 1])
    ]
    tasks = ranges_per_task(ranges, task_bytes=6)
    assert [len(task) for task in tasks] == [2, 2, 2]
    assert [span for task in tasks for span in task] == ranges


def test_only_local_files_that_are_not_compressed_are_read_without_spark(tmp_path: Path) -> None:
    names = ["plain.csv", "a b%.txt", "part-00000", "packed.gz"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    uris = {name: (tmp_path / name).as_uri() for name in names}
    assert plain_paths([uris[name] for name in names[:3]]) == [str(tmp_path / name) for name in names[:3]]
    assert plain_paths([uris["plain.csv"], uris["packed.gz"]]) is None
    assert plain_paths(["hdfs://name/plain.csv"]) is None
    assert plain_paths(["file://host/plain.csv"]) is None
    assert plain_paths([(tmp_path / "gone.csv").as_uri()]) is None
