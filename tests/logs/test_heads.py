"""What is said of a file that isn't the lines of text that its name promises."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from esmm_spark.contracts.errors import InputError
from esmm_spark.logs.heads import check_opaque, is_opaque, read_head

LINES = b"1,0,0,k,0,\n2,0,0,k,0,\n"


def streamed(content: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(content)
    content_written: bytes = sink.getvalue().to_pybytes()
    return content_written


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.gz", LINES, r"is named \.gz, but is no gzip \(it begins with 312c302c\)"),
        (
            "a.csv.bz2",
            gzip.compress(LINES, mtime=0),
            r"is gzip by its first bytes, but not by its name.*in \.gz",
        ),
        ("a.csv", gzip.compress(LINES, mtime=0), r"is gzip by its first bytes, but not by its name.*in \.gz"),
        ("a.csv", bz2.compress(LINES), r"bzip2 by its first bytes.*end in \.bz2"),
        ("a.csv", streamed(LINES, "zstd"), r"Zstandard by its first bytes.*end in \.zst"),
        ("a.csv.xz", lzma.compress(LINES), r"\.xz is no compression that Spark reads: write it as plain"),
        ("a.csv", lzma.compress(LINES), r"is xz by its first bytes, which isn't read: write it as plain"),
        ("a.csv.zip", b"PK\x03\x04", r"\.zip is no compression that Spark reads"),
        ("a.csv.lz4", streamed(LINES, "lz4"), r"is an LZ4 frame by its first bytes, which isn't read"),
        ("a.csv", b"PAR1\x15\x04", r"is Parquet by its first bytes"),
        ("a.csv", "\ufeffa,b\n".encode("utf-16-le"), r"is UTF-16 \(it begins with fffe\): write it as UTF-8"),
        ("a.csv.gz", gzip.compress("a".encode("utf-16"), mtime=0), r"is UTF-16"),
        ("a.csv.gz", gzip.compress(LINES, mtime=0)[:4] + b"x" * 20, r"can't be read: .*write it again"),
        ("a.csv.snappy", LINES, r"Hadoop's own format"),
    ],
    ids=range(14),
)
def test_a_file_that_is_not_what_its_name_says_is_told_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as told:
        read_head(str(path))
    assert name in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.csv", bytes),
        ("a.csv.gz", gzip.compress),
        ("a.csv.bz2", bz2.compress),
        ("a.csv.zst", lambda content: streamed(content, "zstd")),
    ],
)
def test_every_codec_shows_the_same_first_lines_and_the_mark(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / name
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(pack(mark + LINES))
        head = read_head(str(path))
        assert (head.text.encode(), head.has_mark) == (LINES, mark != b"")
        assert not head.ends_lines_by_returns
    path.write_bytes(pack(LINES.replace(b"\n", b"\r")))
    assert read_head(str(path)).ends_lines_by_returns


def test_ids_that_look_like_a_codec_and_files_for_spark_alone_are_no_error(tmp_path: Path) -> None:
    for name, content in {
        "bz.csv": b"BZh9,0,0,k,0,\n",
        "par.csv": b"PAR1,0,0,k,0,\n",
        "pk.csv": b"PK,0,0,k,0,",
        "one.csv": b"1,0,0,k,0,\r",
        "empty.csv.gz": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert not read_head(str(tmp_path / name)).ends_lines_by_returns
    hadoops = tmp_path / "a.csv.lz4"
    hadoops.write_bytes(b"\x00\x00\x00\x16")
    assert is_opaque(str(hadoops))
    check_opaque(str(hadoops))
    hadoops.write_bytes(streamed(LINES, "lz4"))
    with pytest.raises(InputError, match="LZ4 frame"):
        check_opaque(str(hadoops))
