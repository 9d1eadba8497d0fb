"""Sniffs the first bytes of text files: compression, byte order mark, first lines.

What Spark would read as garbage, or as nothing at all, without a word is refused here.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from pyarrow import fs

from esmm_spark.contracts.errors import InputError
from esmm_spark.files import filesystems

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What the manifest calls the number of files that begin with one.
BYTE_ORDER_MARKS = "byte_order_marks"

_HEAD_BYTES = 1 << 16
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class _Codec(NamedTuple):
    """A way to compress files.

    Attributes:
        name: for people.
        suffix: by which Spark knows it.
        start: matches the first bytes of such a file.
        is_read: whether Spark reads what other tools write.
    """

    name: str
    suffix: str
    start: re.Pattern[bytes]
    is_read: bool


_CODECS = (
    _Codec("gzip", ".gz", re.compile(rb"\x1f\x8b"), True),
    _Codec("bzip2", ".bz2", re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), True),
    _Codec("Zstandard", ".zst", re.compile(rb"\x28\xb5\x2f\xfd"), True),
    # Hadoop's .lz4 is another format: it finds no line in this one, and no error.
    _Codec("an LZ4 frame", ".lz4", re.compile(rb"\x04\x22\x4d\x18"), False),
    _Codec("xz", ".xz", re.compile(rb"\xfd7zXZ\x00"), False),
    _Codec("zip", ".zip", re.compile(rb"PK\x03\x04"), False),
    _Codec("7z", ".7z", re.compile(rb"7z\xbc\xaf\x27\x1c"), False),
    _Codec("Parquet", ".parquet", re.compile(rb"PAR1[\x00-\x1f]"), False),
)
_UNREAD_SUFFIXES = (".xz", ".zip", ".7z", ".lzma", ".br", ".Z", ".tar", ".tgz", ".rar", ".lzo")
# Hadoop's own formats, which Spark reads and nothing here does.
_OPAQUE_SUFFIXES = (".deflate", ".snappy", ".lz4")
_REMEDY = "write it as plain text, .gz or .bz2"


@dataclass(frozen=True)
class Head:
    """The first lines of a text file.

    Attributes:
        text: its first lines, whole ones, without a byte order mark; empty if the file is.
        has_mark: whether it begins with a UTF-8 byte order mark.
    """

    text: str
    has_mark: bool

    @property
    def ends_lines_by_returns(self) -> bool:
        """Returns whether carriage returns alone end its lines."""
        return "\r" in self.text[:-1] and "\n" not in self.text


def read_head(path: str) -> Head:
    """Returns how the file begins.

    Raises:
        InputError: it can't be opened, is compressed otherwise than its name says, or in a way that isn't
            read, or is UTF-16.
    """
    filesystem, inner = filesystems.filesystem_of(path)
    raw = _first_bytes(path, filesystem, inner, None)
    suffix = _check_codec(path, raw)
    if suffix in _OPAQUE_SUFFIXES:
        raise InputError(f"{path} is compressed in Hadoop's own format, which is read for Ali-CCP: {_REMEDY}")
    content = _first_bytes(path, filesystem, inner, "detect") if suffix else raw
    if content.startswith(_UTF_16_MARKS):
        raise InputError(f"{path} is UTF-16 (it begins with {content[:2].hex()}): write it as UTF-8")
    text = content.decode("utf-8-sig", errors="replace")
    whole, newline, _ = text.rpartition("\n")
    is_cut = len(content) == _HEAD_BYTES
    return Head(whole if newline and is_cut else text, content.startswith(BYTE_ORDER_MARK))


def is_opaque(path: str) -> bool:
    """Returns whether only Spark can look into the file, by its name."""
    return path.endswith(_OPAQUE_SUFFIXES)


def check_opaque(path: str) -> None:
    """Raises InputError if a file of `is_opaque` is of another format than Hadoop's."""
    filesystem, inner = filesystems.filesystem_of(path)
    _check_codec(path, _first_bytes(path, filesystem, inner, None))


def _check_codec(path: str, raw: bytes) -> str:
    """Returns the suffix of the codec by which the file is compressed, empty if it isn't."""
    for suffix in _UNREAD_SUFFIXES:
        if path.endswith(suffix):
            raise InputError(f"{path}: {suffix} is no compression that Spark reads: {_REMEDY}")
    for codec in _CODECS:
        if codec.start.match(raw):
            if not codec.is_read:
                raise InputError(f"{path} is {codec.name} by its first bytes, which isn't read: {_REMEDY}")
            if not path.endswith(codec.suffix):
                raise InputError(
                    f"{path} is {codec.name} by its first bytes, but not by its name, which counts: let "
                    f"it end in {codec.suffix}"
                )
            return codec.suffix
        if raw and codec.is_read and path.endswith(codec.suffix):
            raise InputError(
                f"{path} is named {codec.suffix}, but is no {codec.name} (it begins with {raw[:4].hex()}): "
                "leave the suffix out, or write it again"
            )
    return next((suffix for suffix in _OPAQUE_SUFFIXES if path.endswith(suffix)), "")


def _first_bytes(path: str, filesystem: fs.FileSystem, inner: str, compression: str | None) -> bytes:
    try:
        with filesystem.open_input_stream(inner, compression=compression) as stream:
            return bytes(stream.read(_HEAD_BYTES))
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} can't be read: {reason}: write it again") from error
