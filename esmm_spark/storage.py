"""Files and folders by URI or plain path, and how a folder is replaced so that no reader sees half of it.

Paths are local, `hdfs://` or `s3a://`, as Spark takes them. A folder is complete when it holds `MARKER`. It
is written under a staging name beside its target (`staging_path`) and takes the target's place by two renames
(`replace_directory`); a job killed between the two leaves the old folder under a name that `recover` knows.
"""

import posixpath
from pathlib import Path
from typing import cast

from pyarrow import fs

from esmm_spark.errors import IncompleteError, InputError, UnsafeFileError

MARKER = "_SUCCESS"

# petastorm keeps a pickled schema in these; Spark and esmm_spark never write them.
_PICKLE_NAMES = ("_common_metadata", "_metadata")
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt")


def filesystem_of(uri: str) -> tuple[fs.FileSystem, str]:
    """Returns the pyarrow file system that serves `uri` and the path of `uri` in it.

    Args:
        uri: a plain path, or `file://`, `hdfs://`, `s3a://`, `s3://`, `gs://`.

    Raises:
        InputError: the scheme is unknown or its file system can't be reached.
    """
    if "://" not in uri and not uri.startswith("file:"):
        return fs.LocalFileSystem(), str(Path(uri).absolute())
    try:
        filesystem, path = fs.FileSystem.from_uri(uri.replace("s3a://", "s3://", 1))
    except (OSError, ValueError) as error:
        raise InputError(f"no file system for {uri}: {error}") from error
    return filesystem, path


def join(uri: str, *parts: str) -> str:
    """Returns `uri` with `parts` appended, whatever its scheme."""
    return posixpath.join(uri, *parts)


def exists(uri: str) -> bool:
    """Returns whether a file or a folder stands at `uri`."""
    filesystem, path = filesystem_of(uri)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def is_complete(uri: str) -> bool:
    """Returns whether the folder at `uri` was written to its end."""
    return exists(join(uri, MARKER))


def require_complete(uri: str, what: str, remedy: str) -> None:
    """Raises unless the folder at `uri` is there and was written to its end.

    Args:
        uri: the folder.
        what: what it should be, for the message ("dataset").
        remedy: what the user should do ("run jobs/preprocess.py").

    Raises:
        InputError: nothing stands there.
        IncompleteError: it has no marker.
    """
    recover(uri)
    if not exists(uri):
        raise InputError(f"no {what} at {uri}: {remedy}")
    if not is_complete(uri):
        raise IncompleteError(f"the {what} at {uri} is half-written (it has no {MARKER}): {remedy}")


def list_files(uri: str, suffix: str = "", recursive: bool = True) -> list[tuple[str, int]]:
    """Returns `(path relative to uri, bytes)` of the files below `uri` ending in `suffix`, sorted by path."""
    filesystem, path = filesystem_of(uri)
    infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive))
    return sorted(
        (posixpath.relpath(info.path, path), cast(int, info.size))
        for info in infos
        if info.type == fs.FileType.File and info.path.endswith(suffix)
    )


def list_directories(uri: str) -> list[str]:
    """Returns the names of the folders directly in `uri`, sorted."""
    filesystem, path = filesystem_of(uri)
    infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)


def read_bytes(uri: str) -> bytes:
    """Returns the whole content of the file at `uri`.

    Raises:
        InputError: there is no such file.
    """
    filesystem, path = filesystem_of(uri)
    try:
        with filesystem.open_input_stream(path) as stream:
            return cast(bytes, stream.read())
    except FileNotFoundError as error:
        raise InputError(f"no file at {uri}") from error


def read_text(uri: str) -> str:
    """Returns the content of the UTF-8 file at `uri`. Raises InputError where there is none."""
    return read_bytes(uri).decode("utf-8")


def write_bytes(uri: str, content: bytes) -> None:
    """Writes the file at `uri` through a temporary name, so that a reader sees all of it or nothing."""
    filesystem, path = filesystem_of(uri)
    filesystem.create_dir(posixpath.dirname(path), recursive=True)
    temporary = posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}.tmp")
    with filesystem.open_output_stream(temporary) as stream:
        stream.write(content)
    filesystem.move(temporary, path)


def write_text(uri: str, content: str) -> None:
    """Writes the UTF-8 file at `uri` through a temporary name."""
    write_bytes(uri, content.encode("utf-8"))


def make_directory(uri: str) -> None:
    """Creates the folder at `uri` and those above it; one that is there already is left as it is."""
    filesystem, path = filesystem_of(uri)
    filesystem.create_dir(path, recursive=True)


def delete(uri: str) -> None:
    """Deletes the file or folder at `uri`; one that isn't there is no error."""
    filesystem, path = filesystem_of(uri)
    kind = filesystem.get_file_info(path).type
    if kind == fs.FileType.Directory:
        filesystem.delete_dir(path)
    elif kind == fs.FileType.File:
        filesystem.delete_file(path)


def move(source: str, target: str) -> None:
    """Renames `source` to `target`, both on one file system."""
    filesystem, source_path = filesystem_of(source)
    filesystem.move(source_path, filesystem_of(target)[1])


def staging_path(target: str) -> str:
    """Returns the name under which the folder `target` is written before it takes its place.

    Spark and petastorm skip names that begin with a dot.
    """
    return _sibling(target, "staging")


def replace_directory(target: str) -> None:
    """Puts the finished folder at `staging_path(target)` in the place of `target`.

    The folder must hold its marker. Two renames: target -> previous, staging -> target. What was there before
    is whole until the new one stands; `recover` mends a kill between the two.
    """
    staged, previous = staging_path(target), _sibling(target, "previous")
    assert is_complete(staged), staged
    recover(target)
    if exists(target):
        delete(previous)
        move(target, previous)
    move(staged, target)
    delete(previous)


def recover(target: str) -> None:
    """Brings `target` back if a job was killed between the two renames of `replace_directory`."""
    previous = _sibling(target, "previous")
    if not exists(target) and exists(previous):
        move(previous, target)


def refuse_pickles(uri: str, what: str) -> None:
    """Raises UnsafeFileError if a file below `uri` carries a pickle or is of a kind that does.

    Args:
        uri: the folder of a dataset or model.
        what: what it is, for the message.
    """
    for path, _ in list_files(uri):
        name = posixpath.basename(path)
        if name in _PICKLE_NAMES or name.endswith(_PICKLE_SUFFIXES):
            raise UnsafeFileError(
                f"{what} {uri} carries {path}, a file that can hold a pickle, which runs code when opened: "
                "delete it if you trust nothing else in it, or make the folder again with esmm_spark"
            )


def _sibling(target: str, suffix: str) -> str:
    target = target.rstrip("/")
    return posixpath.join(posixpath.dirname(target), f".{posixpath.basename(target)}.{suffix}")
