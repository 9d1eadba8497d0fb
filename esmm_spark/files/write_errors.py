"""Translates failed writes (disk full, quota, no permission) and failing disks into errors of one line."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from esmm_spark.contracts.errors import InputError, UnwritableError
from esmm_spark.files import filesystems, storage

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FAILING = {errno.EIO, errno.ESTALE, errno.EREMOTEIO, errno.ENOTCONN}
_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EFBIG,
}


@contextmanager
def told_in_one_line(what: str) -> Iterator[None]:
    """Context manager: raises failed writes as a user error of one line; other errors pass through.

    Args:
        what: what is written, for the message ("paths.dataset data/x").

    Raises:
        UnwritableError: the disk is full, read-only or fails, a permission is missing, a file stands where a
            folder must be.
    """
    try:
        yield
    except OSError as error:
        refused = refusal(error.errno, str(error), what)
        if refused is None:
            raise
        raise refused from error


def refusal(number: int | None, reason: str, what: str) -> UnwritableError | None:
    """Returns what to tell the user of an operating system's error; None where it is none of writing.

    Args:
        number: its errno.
        reason: its text.
        what: what was written.
    """
    if number in _FULL:
        return UnwritableError(
            f"no room to write {what}{_free(what)}: {reason}: make room, or name another place; nothing was "
            "replaced"
        )
    if number in _REFUSED:
        return UnwritableError(
            f"the file system refuses while {what} is written: {reason}: mend the access, or name another "
            "place"
        )
    return failing_storage(number, reason, f" while {what} is written")


def failing_storage(number: int | None, reason: str, when: str = "") -> UnwritableError | None:
    """Returns what to tell of an operating system's error if a disk or its network fails; None of others.

    Args:
        number: its errno.
        reason: its text.
        when: what it came in, for the message (" while paths.dataset data/x is written").
    """
    if number not in _FAILING:
        return None
    return UnwritableError(
        f"a disk or a file system fails{when}: {reason}: mend it, and start this command again; nothing was "
        "replaced"
    )


def require_folder_possible(target: str, what: str) -> None:
    """Raises InputError where a file stands in the way of the folder `target`, or `target` is a dead link."""
    filesystem, path = filesystems.filesystem_of(target)
    if not isinstance(filesystem, fs.LocalFileSystem):
        return
    real = storage.resolved(target)
    for place in (Path(path), *Path(path).parents):
        if place.is_symlink() and not _leads_somewhere(str(place)):
            raise InputError(
                f"{what} {target}: {place} is a symbolic link to {storage.resolved(str(place))}, which isn't "
                "there: make that folder, or delete the link"
            )
    above = Path(real)
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        where = "is a file" if str(above) == real else f"lies below {above}, which is a file"
        raise InputError(f"{what} {target} {where}: name a folder")


def require_writable(folder: str, what: str, name: str) -> None:
    """Raises unless files can be written to `folder`, which is made if it isn't there.

    Args:
        folder: the folder.
        what: what it is, for the message.
        name: of the file that is written and deleted: no other process's.

    Raises:
        InputError: a file is in the way.
        UnwritableError: the file system refuses.
    """
    require_folder_possible(folder, what)
    probe = storage.join(storage.resolved(folder), f".{name}.probe")
    with told_in_one_line(f"{what} {folder}"):
        storage.make_directory(storage.resolved(folder))
        storage.write_text(probe, "can this be written?")
        storage.delete(probe)


def _leads_somewhere(link: str) -> bool:
    real = storage.resolved(link)
    # While it is replaced it stands beside its place; perhaps it came back between the first two questions.
    return any(map(os.path.lexists, (real, storage.sibling(link, "previous"), real)))


def _free(what: str) -> str:
    """Returns the free space of the disk, where `what` ends in a local path; else an empty text."""
    path = what.rpartition(" ")[2]
    try:
        filesystem, path = filesystems.filesystem_of(path)
        if not isinstance(filesystem, fs.LocalFileSystem):
            return ""
        while not os.path.exists(path):
            path = os.path.dirname(path)
        room = os.statvfs(path)
    except (InputError, OSError):
        return ""
    return f", which has {room.f_bavail * room.f_frsize / (1 << 20):,.0f} MiB free"
