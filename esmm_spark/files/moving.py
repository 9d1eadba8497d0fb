"""Deletes and moves folders so that a folder's marker never stands in an incomplete one.

Where folders can be renamed, moving is one rename. An object store has no folders, only files with slashes in
their names, and pyarrow refuses to move a folder there: each file is copied and deleted. So the marker is
copied after all other files, and deleted before them.
"""

import errno
import os
import posixpath
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pyarrow import fs

from esmm_spark.contracts.schemas.layout import MARKER

_RENAMING = ("local", "hdfs")
# What file systems without hard links answer.
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
COPIES_AT_ONCE = 16
# Of a new file; the user's umask takes from it.
_MODE = 0o666
# S3 copies no larger object by itself.
_MAX_COPY_BYTES = 5 << 30


def can_rename(filesystem: fs.FileSystem) -> bool:
    """Returns whether a folder can be renamed there, by one atomic step."""
    return filesystem.type_name in _RENAMING


def create(filesystem: fs.FileSystem, path: str, content: bytes, token: str) -> bool:
    """Writes a file in one atomic step, unless there is one at `path`: returns false then.

    Only where folders can be renamed. `token` is the caller's alone: for a temporary name.

    Raises:
        OSError: the file system refuses.
    """
    if isinstance(filesystem, fs.LocalFileSystem):
        return _create_local(path, content, f"{path}.{token}.new")
    if filesystem.get_file_info(path).type != fs.FileType.NotFound:
        return False
    temporary = f"{path}.{token}.new"
    with filesystem.open_output_stream(temporary) as stream:
        stream.write(content)
    try:
        # HDFS refuses to rename to a name that is taken.
        filesystem.move(temporary, path)
    except OSError:
        filesystem.delete_file(temporary)
        if filesystem.get_file_info(path).type != fs.FileType.NotFound:
            return False
        raise
    return True


def create_temporary(filesystem: fs.FileSystem, folder: str, name: str) -> str:
    """Returns the path of a new, hidden file in `folder`, for what `name` is going to hold.

    As `tempfile.mkstemp` makes one: under a name that nobody can know before, and never through a file or
    link that stands there. But with the user's umask, where mkstemp's is for its owner alone and would stay
    so. In an object store nothing is made before it is written.

    Raises:
        OSError: the file system refuses.
    """
    path = posixpath.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
    if isinstance(filesystem, fs.LocalFileSystem):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _MODE))
    return path


def _create_local(path: str, content: bytes, temporary: str) -> bool:
    """Creates a local file that has its content from the start: links a temporary file to its name.

    So nobody reads, moves or restores it while it is still empty. Where there are no hard links, it is empty
    for a moment.
    """
    if not _create_and_write(temporary, content):
        return False
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return _create_and_write(path, content)
    finally:
        os.unlink(temporary)
    return True


def _create_and_write(path: str, content: bytes) -> bool:
    """Creates a file and then writes it; returns false if there is one."""
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _MODE)
    except FileExistsError:
        return False
    try:
        os.write(file, content)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(file)
    return True


def delete(filesystem: fs.FileSystem, path: str) -> None:
    """Deletes the file or folder at `path`, a folder's marker first; what isn't there is no error."""
    kind = filesystem.get_file_info(path).type
    if kind == fs.FileType.File:
        filesystem.delete_file(path)
    elif kind == fs.FileType.Directory:
        marker = posixpath.join(path, MARKER)
        if filesystem.get_file_info(marker).is_file:
            filesystem.delete_file(marker)
        # Where there are no folders, one may end with its last file.
        with suppress(FileNotFoundError):
            filesystem.delete_dir(path)


def move(filesystem: fs.FileSystem, source: str, target: str) -> None:
    """Moves the file or folder at `source` to `target`: by copying it where that is on another disk.

    A file takes the place of a file. A folder's target must not be there, where folders can be renamed; in an
    object store what is there is deleted.

    Raises:
        OSError: there is no source, or the file system refuses.
    """
    if can_rename(filesystem):
        try:
            filesystem.move(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.move(source, target)
        return
    info = filesystem.get_file_info(source)
    if info.type != fs.FileType.Directory:
        copy(filesystem, info, target)
        filesystem.delete_file(source)
        return
    delete(filesystem, target)
    _copy_folder(filesystem, source, target)
    delete(filesystem, source)


def _copy_folder(filesystem: fs.FileSystem, source: str, target: str) -> None:
    """Copies the files below `source`, markers last, the folder's own after those of the folders in it."""
    infos = filesystem.get_file_info(fs.FileSelector(source, recursive=True))
    files = [info for info in infos if info.is_file]
    markers = [info for info in files if info.base_name == MARKER]

    def copy_below(info: fs.FileInfo) -> None:
        copy(filesystem, info, posixpath.join(target, posixpath.relpath(info.path, source)))

    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        # list: so that an exception is raised here.
        list(pool.map(copy_below, [info for info in files if info.base_name != MARKER]))
    for info in sorted(markers, key=lambda info: -info.path.count("/")):
        copy_below(info)


def copy(filesystem: fs.FileSystem, info: fs.FileInfo, target: str) -> None:
    """Copies the file of `info` to `target`, through this process if it is too large for the store."""
    if info.is_file and info.size > _MAX_COPY_BYTES:
        with filesystem.open_input_stream(info.path) as read, filesystem.open_output_stream(target) as write:
            write.upload(read)
    else:
        filesystem.copy_file(info.path, target)
