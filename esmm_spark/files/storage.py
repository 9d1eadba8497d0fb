"""Storage by URI or plain path: read, write, list, move, delete, and checks of completeness.

locations.py says what a path may be, filesystems.py what serves it. A folder is complete when it holds
`MARKER`. While it is replaced (`replacing.py`) it may be missing for a moment, in which the old one stands
beside it under another name. Readers wait that moment (`await_complete`) and change nothing: what they find
may be a job at work.
"""

import os
import posixpath
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import cast

from pyarrow import NativeFile, fs

from esmm_spark.contracts.errors import IncompleteError, InputError, UnsafeFileError
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import filesystems, moving

# How long a reader waits for a folder that is between two names.
_PATIENCE_S = 2.0
_PAUSE_S = 0.1

# petastorm keeps a pickled schema in these; Spark and esmm_spark never write them.
_PICKLE_NAMES = ("_common_metadata", "_metadata")
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt")


def resolved(uri: str) -> str:
    """Returns `uri`, not relative, with its symbolic links followed: where a writer must write.

    Only local paths have links. What a link leads to need not be there.
    """
    filesystem, path = filesystems.filesystem_of(uri)
    return os.path.realpath(path) if isinstance(filesystem, fs.LocalFileSystem) else uri.rstrip("/")


def is_link(uri: str) -> bool:
    """Returns whether a symbolic link stands at `uri`."""
    filesystem, path = filesystems.filesystem_of(uri)
    return isinstance(filesystem, fs.LocalFileSystem) and os.path.islink(path)


def join(uri: str, *parts: str) -> str:
    """Returns `uri` with `parts` appended, whatever its scheme."""
    return posixpath.join(uri, *parts)


def exists(uri: str) -> bool:
    """Returns whether a file or a folder stands at `uri`."""
    filesystem, path = filesystems.filesystem_of(uri)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def is_complete(uri: str) -> bool:
    """Returns whether the folder at `uri` was written to its end."""
    return exists(join(uri, MARKER))


def await_complete(uri: str) -> bool:
    """Returns whether the folder at `uri` was written to its end, as a reader must ask.

    While a folder is replaced it may be missing, and the old one stands beside it: this waits for 2 seconds,
    in which renames are done and moves in an object store may be.

    Raises:
        IncompleteError: the folder is still missing then.
    """
    give_up = time.monotonic() + _PATIENCE_S
    while not is_complete(uri):
        if not is_complete(sibling(uri, "previous")):
            # Perhaps it came, and the old one went, between the two questions.
            return is_complete(uri)
        if time.monotonic() > give_up:
            raise IncompleteError(
                f"{uri} is being replaced, or the job that replaced it was killed: try again when no job "
                "writes it, or run that job again"
            )
        time.sleep(_PAUSE_S)
    return True


def require_complete(uri: str, what: str, remedy: str) -> None:
    """Raises unless the folder at `uri` is there and was written to its end.

    Args:
        uri: the folder.
        what: what it should be, for the message ("dataset").
        remedy: what the user should do ("run jobs/preprocess.py").

    Raises:
        InputError: nothing stands there.
        IncompleteError: it has no marker, or stays away while it is replaced.
    """
    if not await_complete(uri):
        if not exists(uri):
            raise InputError(f"no {what} at {uri}: {remedy}")
        raise IncompleteError(f"the {what} at {uri} is half-written (it has no {MARKER}): {remedy}")


def list_files(uri: str, suffix: str = "", recursive: bool = True) -> list[tuple[str, int]]:
    """Returns `(path relative to uri, bytes)` of the files below `uri` ending in `suffix`, sorted by path."""
    filesystem, path = filesystems.filesystem_of(uri)
    infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive))
    return sorted(
        (posixpath.relpath(info.path, path), cast(int, info.size))
        for info in infos
        if info.type == fs.FileType.File and info.path.endswith(suffix)
    )


def list_directories(uri: str) -> list[str]:
    """Returns the names of the folders directly in `uri`, sorted."""
    filesystem, path = filesystems.filesystem_of(uri)
    infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)


def read_bytes(uri: str) -> bytes:
    """Returns the whole content of the file at `uri`.

    Raises:
        InputError: there is no such file.
    """
    filesystem, path = filesystems.filesystem_of(uri)

    def content() -> bytes:
        with filesystem.open_input_stream(path) as stream:
            return cast(bytes, stream.read())

    try:
        try:
            return content()
        except OSError as error:
            if isinstance(error, FileNotFoundError) or moving.can_rename(filesystem):
                raise
            # An object that was deleted once it was open fails like this: another look tells.
            return content()
    except FileNotFoundError as error:
        raise InputError(f"no file at {uri}") from error


def read_text(uri: str) -> str:
    """Returns the content of the UTF-8 file at `uri`. Raises InputError where there is none, or no UTF-8."""
    try:
        return read_bytes(uri).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{uri} is damaged: it is no UTF-8 text ({error})") from error


@contextmanager
def writing(uri: str) -> Iterator[NativeFile]:
    """Yields a stream to the file at `uri`, which is written under a temporary name until the context ends.

    So a reader sees all of it or nothing; after an exception it is what it was, and no other is left.
    """
    filesystem, path = filesystems.filesystem_of(uri)
    folder, name = posixpath.split(path)
    if moving.can_rename(filesystem):
        filesystem.create_dir(folder, recursive=True)
    temporary = moving.create_temporary(filesystem, folder, name)
    try:
        with filesystem.open_output_stream(temporary) as stream:
            yield stream
        moving.move(filesystem, temporary, path)
    except BaseException:
        # What went wrong before is what the user should hear of.
        with suppress(OSError):
            moving.delete(filesystem, temporary)
        raise


def write_bytes(uri: str, content: bytes) -> None:
    """Writes the file at `uri` through a temporary name, so that a reader sees all of it or nothing."""
    with writing(uri) as stream:
        stream.write(content)


def write_text(uri: str, content: str) -> None:
    """Writes the UTF-8 file at `uri` through a temporary name."""
    write_bytes(uri, content.encode("utf-8"))


def make_directory(uri: str) -> None:
    """Creates the folder at `uri` and those above it; one that is there already is left as it is."""
    filesystem, path = filesystems.filesystem_of(uri)
    filesystem.create_dir(path, recursive=True)


def delete(uri: str) -> None:
    """Deletes the file or folder at `uri`, a folder's marker first; one that isn't there is no error."""
    moving.delete(*filesystems.filesystem_of(uri))


def move(source: str, target: str) -> None:
    """Moves `source` to `target`, both on one file system: by a rename, in an object store file by file."""
    filesystem, source_path = filesystems.filesystem_of(source)
    moving.move(filesystem, source_path, filesystems.filesystem_of(target)[1])


def copy_file(source: str, target: str) -> None:
    """Copies the file at `source` to `target`, both on one file system; makes the folder it goes to."""
    filesystem, source_path = filesystems.filesystem_of(source)
    make_directory(posixpath.dirname(target))
    moving.copy(filesystem, filesystem.get_file_info(source_path), filesystems.filesystem_of(target)[1])


def copy_folder(source: str, target: str) -> None:
    """Copies all files below the folder `source` to `target`, which may be on another file system."""
    (source_fs, source_path), (target_fs, target_path) = map(filesystems.filesystem_of, (source, target))
    paths = [path for path, _ in list_files(source)]
    for folder in {posixpath.dirname(path) for path in ["", *paths]}:
        make_directory(join(target, folder) if folder else target)

    def copy(path: str) -> None:
        # Threads of pyarrow's own wait for ever where there are more files than of them: what writes to a
        # store by the way needs the same threads.
        fs.copy_files(
            posixpath.join(source_path, path),
            posixpath.join(target_path, path),
            source_filesystem=source_fs,
            destination_filesystem=target_fs,
            use_threads=False,
        )

    with ThreadPoolExecutor(moving.COPIES_AT_ONCE) as pool:
        # list: so that an exception is raised here.
        list(pool.map(copy, paths))


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


def sibling(target: str, suffix: str) -> str:
    """Returns a hidden name beside what `target` leads to: `data/.examples.previous` of `data/examples`.

    Spark and petastorm skip names that begin with a dot.
    """
    target = resolved(target)
    return posixpath.join(posixpath.dirname(target), f".{posixpath.basename(target)}.{suffix}")
