"""The file system that serves a path or URI: pyarrow's, and the form that Spark takes."""

from pathlib import Path

from pyarrow import fs

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.locations import escape_glob, split_location


def filesystem_of(uri: str) -> tuple[fs.FileSystem, str]:
    """Returns the pyarrow file system that serves `uri` and the path of `uri` in it.

    Args:
        uri: a plain path, or a URI as `locations` has them; but for `file:` nothing is percent-decoded, as
            Hadoop's paths aren't.

    Raises:
        InputError: the scheme is unknown or its file system can't be reached.
    """
    scheme, authority, path = _split(uri)
    if not scheme:
        return fs.LocalFileSystem(), str(Path(path).absolute())
    try:
        # The root alone: of a longer URI pyarrow takes neither spaces nor umlauts.
        filesystem, _ = fs.FileSystem.from_uri(f"{scheme.replace('s3a', 's3')}://{authority}/")
    except (OSError, ValueError) as error:
        raise InputError(f"no file system for {uri}: {_reason(error)}") from error
    return filesystem, f"/{path}" if scheme in ("hdfs", "viewfs") else f"{authority}/{path}".rstrip("/")


def _split(uri: str) -> tuple[str, str, str]:
    try:
        return split_location(uri)
    except ValueError as error:
        raise InputError(f"no file system for {uri}: {error}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "libhdfs" in text or "libjvm" in text:
        return (
            "pyarrow finds no libhdfs or libjvm: set JAVA_HOME, HADOOP_HOME (or ARROW_LIBHDFS_DIR) and "
            f"CLASSPATH=$(hadoop classpath --glob), on every host ({text[:200]})"
        )
    return text


def spark_path(uri: str) -> str:
    """Returns `uri` as Spark is to write it: a plain path is this host's, whatever Spark's own default is."""
    scheme, authority, path = _split(uri)
    if not scheme:
        return f"file://{Path(path).absolute()}"
    # Apache's Hadoop has no file system of the name s3.
    return f"{'s3a' if scheme == 's3' else scheme}://{authority}/{path}"


def spark_source(uri: str, is_glob: bool = False) -> str:
    """Returns `uri` as Spark is to read it.

    Spark takes every path that it reads for a glob. Escaped is all of `uri`, or, if it may be a glob, what
    its author didn't write: the folder that a relative one begins in. What stands here under that very name
    is meant itself.
    """
    scheme, _, path = _split(uri)
    if not is_glob or (not scheme and Path(path).exists()):
        return escape_glob(spark_path(uri))
    if scheme or path.startswith("/"):
        return spark_path(uri)
    return f"file://{escape_glob(str(Path.cwd()))}/{path}"


def absolute(uri: str) -> str:
    """Returns `uri` as it leads to the same place from every process's working folder."""
    is_remote = "://" in uri and not uri.lower().startswith("file:")
    return uri if is_remote else filesystem_of(uri)[1]
