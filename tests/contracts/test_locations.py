"""Paths and URIs: what they lead to, what is refused, and that no secret is shown."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.locations import (
    check_glob,
    normal_location,
    overlap,
    place_of,
    redacted,
    split_location,
)
from esmm_spark.files import filesystems, storage


@pytest.mark.parametrize(
    ("location", "normal"),
    [
        ("data/x/", "data/x"),
        ("data/a%20b", "data/a%20b"),
        ("/", "/"),
        ("day:1/x", "day:1/x"),
        ("file:///data/a%20b", "/data/a b"),
        ("file:///data/a b", "/data/a b"),
        ("file:///data/b%C3%BCcher", "/data/bücher"),
        ("file:///data/bücher/", "/data/bücher"),
        ("file:/data/x", "/data/x"),
        ("FILE://localhost/data/x", "/data/x"),
        ("S3A://bucket/x/", "s3a://bucket/x"),
        ("s3a://bucket/city=New%20York", "s3a://bucket/city=New%20York"),
        ("s3a://bucket/user@host/part-?.csv", "s3a://bucket/user@host/part-?.csv"),
        ("hdfs:///x/", "hdfs:///x"),
        ("hdfs://user@name:8020/x", "hdfs://user@name:8020/x"),
        ("hdfs://name:8020/user@x", "hdfs://name:8020/user@x"),
    ],
)
def test_a_location_is_brought_into_one_form(location: str, normal: str) -> None:
    assert normal_location(location) == normal
    assert normal_location(normal) == normal


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("", "must not be empty"),
        (" ", "must not be empty"),
        ("a\nb", "control characters"),
        ("~/data", "~ is the shell's"),
        ("ftp://host/x", "the scheme ftp is not supported: use a plain path, file:///, hdfs://, s3a://"),
        ("abfs://container@account/x", "the scheme abfs is not supported"),
        ("file://data/x", "'data' stands where a host would: write file:///folder/x"),
        ("file:data/x", "stands where a host would"),
        ("s3a:/bucket/x", "names no host or bucket: write s3a://bucket/x"),
        ("s3:///x", "names no host or bucket: write s3://bucket/x"),
        ("hdfs:/x", "or hdfs:///x for the cluster's own"),
        ("s3a://bucket:80/x", "bucket:80 is no host or bucket"),
        ("s3a://KEY:SECRET@bucket/x", r"s3a://\*\*\*@bucket/x carries credentials"),
        ("s3a://KEY:SE/CRET@bucket/x", r"s3a://\*\*\*@bucket/x carries credentials"),
        ("s3a://KEY:12/SECRET@bucket/x", r"s3a://\*\*\*@bucket/x carries credentials"),
        ("s3a://KEY@bucket/x", r"s3a://\*\*\*@bucket/x carries credentials"),
        ("hdfs://user:SECRET@name/x", r"hdfs://\*\*\*@name/x carries credentials"),
        ("s3://bucket/x?access_key=KEY&secret_key=SECRET", r"s3://bucket/x\?\*\*\* carries a query"),
    ],
)
def test_a_location_that_cannot_be_meant_is_refused_in_one_line(location: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        normal_location(location)
    message = str(caught.value)
    assert "\n" not in message
    assert "KEY" not in message
    assert "SECRET" not in message


def test_no_message_shows_a_secret_whoever_wrote_it() -> None:
    error = InputError("no file at s3a://KEY:SECRET@bucket/x, nor at gs://b/y?token=SECRET: write it")
    assert str(error) == "no file at s3a://***@bucket/x, nor at gs://b/y?*** write it"
    assert (
        redacted("hdfs://name:8020/a@b and s3a://bucket/a@b") == "hdfs://name:8020/a@b and s3a://bucket/a@b"
    )


def overlaps(first: str, second: str, is_glob: bool = False) -> bool:
    one, other = place_of(first), place_of(second, is_glob)
    found = overlap(one, other, (False, is_glob))
    assert found == overlap(other, one, (is_glob, False))
    return found


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("/a/b", "/a/b", True),
        ("/a/b", "/a/./x/../b/c", True),
        ("/a/b", "/a/bc", False),
        ("/", "/a", True),
        ("s3a://bucket/a", "s3://bucket/a/b", True),
        ("s3a://bucket", "s3a://bucket/a", True),
        ("s3a://bucket/a", "s3a://other/a", False),
        ("s3a://bucket/a", "gs://bucket/a", False),
        ("s3a://bucket/a", "/bucket/a", False),
        ("hdfs://name/a", "hdfs://NAME:8020/a", True),
        ("hdfs://name/a", "hdfs:///a/b", True),
        ("hdfs://name/a", "hdfs://other/a", False),
    ],
)
def test_places_overlap_where_one_lies_in_the_other(first: str, second: str, expected: bool) -> None:
    assert overlaps(first, second) is expected


@pytest.mark.parametrize(
    ("place", "glob", "expected"),
    [
        ("/raw/dataset", "/raw/*", True),
        ("/raw/dataset", "/raw/*.csv", False),
        ("/raw", "/raw/*.csv", True),
        ("/raw/model/x", "/raw/*/x", True),
        ("/raw/model", "/raw/*/x.csv", True),
        ("/raw/model", "/raw/m[a-p]del/x.csv", True),
        ("/raw/model", "/raw/m[!a-p]del/x.csv", False),
        ("/raw/model", "/raw/{model,scores}", True),
        ("/raw/report", "/raw/{model,scores}", False),
        ("/raw/a/b", "/raw/{a/b,c}", True),
        ("/raw/model", r"/raw/\m*", True),
        ("/raw/model", r"/raw/\*", False),
        ("s3a://bucket/raw/model", "s3://bucket/*/m?del", True),
    ],
)
def test_a_glob_overlaps_with_what_it_matches(place: str, glob: str, expected: bool) -> None:
    assert overlaps(place, glob, is_glob=True) is expected


def test_links_are_resolved_before_places_are_compared(tmp_path: Path) -> None:
    (tmp_path / "real[1]").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real[1]")
    assert overlaps(str(tmp_path / "link" / "x"), str(tmp_path / "real[1]"))
    assert overlaps(str(tmp_path / "real[1]" / "x"), str(tmp_path / "link" / "*"), is_glob=True)
    assert not overlaps(str(tmp_path / "link" / "x"), str(tmp_path / "other"))


@pytest.mark.parametrize("glob", ["raw/[ab", "raw/{a,b", "raw/[a]{b"])
def test_a_glob_that_is_never_closed_is_refused(glob: str) -> None:
    with pytest.raises(ValueError, match="is never closed"):
        check_glob(glob)
    check_glob(glob.replace("[", r"\[").replace("{", r"\{"))


def test_a_path_goes_to_pyarrow_and_spark_as_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "a b ü%20"
    folder.mkdir()
    (folder / "x").write_text("1")
    for uri in (str(folder), f"file://{tmp_path}/a b ü%2520", f"file://{tmp_path}/a%20b%20%C3%BC%2520"):
        assert storage.read_text(storage.join(uri, "x")) == "1"
        assert filesystems.spark_path(uri) == f"file://{folder}"
        assert filesystems.absolute(uri) == str(folder)
    assert filesystems.spark_path("S3://bucket/a b") == "s3a://bucket/a b"
    assert split_location("gs://bucket/a%20b ü") == ("gs", "bucket", "a%20b ü")
    assert filesystems.filesystem_of("gs://bucket/a%20b ü/c")[1] == "bucket/a%20b ü/c"


def test_a_host_without_libhdfs_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_uri(uri: str) -> None:
        raise OSError(f"Unable to load libhdfs for {uri}:\n./libhdfs.so: cannot open shared object file")

    monkeypatch.setattr(filesystems, "fs", SimpleNamespace(FileSystem=SimpleNamespace(from_uri=from_uri)))
    with pytest.raises(InputError, match=r"hdfs://name/a b: pyarrow finds no libhdfs .*JAVA_HOME") as caught:
        filesystems.filesystem_of("hdfs://name/a b")
    assert "\n" not in str(caught.value)


def test_spark_reads_a_path_as_a_glob_only_where_one_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filesystems.spark_source("/data/[x]/y*") == r"file:///data/\[x\]/y\*"
    assert filesystems.spark_source("/data/[x]/y*", is_glob=True) == "file:///data/[x]/y*"
    folder = tmp_path / "job[1]"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert filesystems.spark_source("raw/y*", is_glob=True) == rf"file://{tmp_path}/job\[1\]/raw/y*"
