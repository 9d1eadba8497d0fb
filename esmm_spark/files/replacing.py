"""Atomic replacement of a folder: staged, then renamed; safe under concurrent runs and for foreign files.

    with replacing(config.paths.report, "paths.report", ("metrics.json", "report.html")) as new:
        storage.write_text(storage.join(new.folder, "metrics.json"), ...)

A run holds a lease on the target (`lease.py`), writes a staging folder of its own beside it, and at the end
of the context moves the target away and the staging folder into its place. Its marker lists all that it
holds; the next run that replaces the folder refuses if it finds more than that. A run killed between the two
moves leaves the old folder under a name that `recover` knows, and its staging folder to be deleted: both are
for the next holder of the lease and nobody else.

A symbolic link stays: what it leads to is replaced.
"""

import fnmatch
import json
import os
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from pyarrow import fs

from esmm_spark.contracts.errors import CountMismatchError, InputError
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import filesystems, moving, seals, storage
from esmm_spark.files.lease import Lease, leased
from esmm_spark.files.write_errors import require_folder_possible, told_in_one_line

_STAGING, _PREVIOUS = "staging", "previous"
_ENTRIES_SHOWN = 3


@dataclass
class Replacement:
    """A folder that is being written to take the place of another.

    Attributes:
        target: the folder that it will be; links are followed.
        folder: where it is written: this run's own.
        lease: this run's, on the target or on a folder that holds it.
        what: the setting that names the target, for messages.
        ours: as for `require_own_folder`.
        files: what the folder must hold in the end, relative to it, but for its marker; None where that isn't
            known beforehand.
        digests: file directly in the folder -> its SHA-256, known from when it was written.
    """

    target: str
    folder: str
    lease: Lease
    what: str
    ours: Sequence[str]
    files: Collection[str] | None = None
    digests: dict[str, str] = field(default_factory=dict)

    def publish(self) -> None:
        """Completes the folder and puts it in the place of the target.

        Raises:
            CountMismatchError: a file is missing, or one too many.
            LeaseLostError: another run took the target over.
            InputError: something foreign came into the target meanwhile.
        """
        if self.files is not None:
            require_files(self.folder, self.files)
        complete(self.folder, self.digests)
        require_own_folder(self.target, self.what, self.ours)
        self.lease.require_held()
        replace_directory(self.folder, self.target)

    def abandon(self) -> None:
        """Deletes what was written; after `publish` nothing is left to delete."""
        # What went wrong before is what the user should hear of.
        with suppress(OSError):
            storage.delete(self.folder)


@contextmanager
def replacing(
    target: str, what: str, ours: Sequence[str], lease: Lease | None = None
) -> Iterator[Replacement]:
    """Yields a folder to write, which takes the place of `target` at the end, unless there is an error.

    Args:
        target: the folder.
        what: the setting that names it, for messages ("paths.report").
        ours: as for `require_own_folder`.
        lease: one that this run holds already, on a folder that holds the target; by default the context
            takes one on the target.

    Raises:
        TargetBusyError: another run writes the target.
        LeaseLostError: another one took it over meanwhile.
        InputError: it is a file or a dead link, or holds anything foreign.
        UnwritableError: the file system refuses.
        CountMismatchError: as `Replacement.publish`.
    """
    require_folder_possible(target, what)
    with told_in_one_line(f"{what} {target}"), ExitStack() as stack:
        if lease is None:
            lease = stack.enter_context(leased(storage.sibling(target, "lease"), f"{what} {target}"))
        replacement = begin(target, what, ours, lease)
        try:
            yield replacement
            replacement.publish()
        finally:
            replacement.abandon()


def begin(target: str, what: str, ours: Sequence[str], lease: Lease) -> Replacement:
    """Returns an empty folder to write, once the target is whole and holds nothing foreign."""
    require_own_folder(target, what, ours)
    recover(target)
    for staging in staging_folders(target):
        storage.delete(staging)
    replacement = Replacement(storage.resolved(target), staging_path(target, lease.run), lease, what, ours)
    storage.make_directory(replacement.folder)
    return replacement


def staging_path(target: str, run: str) -> str:
    """Returns the name under which a run writes the folder `target` before it takes its place."""
    return storage.sibling(target, f"{run}.{_STAGING}")


def staging_folders(target: str) -> list[str]:
    """Returns the staging folders of `target` that stand there, of all runs."""
    folder, prefix = posixpath.split(storage.sibling(target, ""))
    return [
        storage.join(folder, name)
        for name in storage.list_directories(folder)
        if name.startswith(prefix) and name.endswith(f".{_STAGING}")
    ]


def complete(folder: str, digests: Mapping[str, str]) -> None:
    """Writes the folder's marker: the files and folders below it, and digests as `seals.digests_of` gives."""
    entries = sorted(name for name in _entries(folder) if name != MARKER)
    content = {"entries": entries, seals.KEY: seals.digests_of(folder, digests)}
    storage.write_text(storage.join(folder, MARKER), json.dumps(content, indent=0) + "\n")


def require_files(folder: str, files: Collection[str]) -> None:
    """Raises CountMismatchError unless the folder holds the files and no other, but for its marker."""
    found = {name for name, _ in storage.list_files(folder)} - {MARKER}
    wanted = set(files) - {MARKER}
    for name in sorted(found ^ wanted):
        is_missing = name in wanted
        raise CountMismatchError(
            f"{folder} {'lacks' if is_missing else 'holds'} {name}, which was "
            f"{'written' if is_missing else 'not written by this run'}: {len(found)} files, not "
            f"{len(wanted)}; nothing was replaced"
        )


def replace_directory(staged: str, target: str) -> None:
    """Puts the finished folder `staged` in the place of `target`, for whoever holds the lease on it.

    The folder must hold its marker. Two moves: target -> previous, staged -> target. What was there before is
    whole until the new one stands; `recover` mends a kill on the way.
    """
    previous = storage.sibling(target, _PREVIOUS)
    assert storage.is_complete(staged), staged
    recover(target)
    if storage.exists(target):
        storage.delete(previous)
        storage.move(target, previous)
    storage.move(staged, target)
    storage.delete(previous)


def recover(target: str) -> None:
    """Brings `target` back if a job was killed while `replace_directory` moved it.

    For whoever holds the lease on it, and nobody else: it would take the folder from a job at work.
    """
    target, previous = storage.resolved(target), storage.sibling(target, _PREVIOUS)
    # An object store can leave a part of the target, which has no marker.
    can_be_part = not moving.can_rename(filesystems.filesystem_of(target)[0])
    is_part = can_be_part and not storage.is_complete(target) and storage.is_complete(previous)
    if is_part or (not storage.exists(target) and storage.exists(previous)):
        storage.move(previous, target)


def require_own_folder(uri: str, what: str, ours: Sequence[str]) -> None:
    """Raises InputError if `uri` is a file or holds anything foreign, which replacing it would delete.

    What its marker lists is its own, at any depth, symbolic links excepted.

    Args:
        uri: the folder that is going to be replaced; it need not be there.
        what: the setting that names it, for the message ("paths.report").
        ours: what belongs into a folder whose marker lists nothing, as older versions wrote it: patterns of
            paths relative to it, like `part-*.parquet`.
    """
    filesystem, path = filesystems.filesystem_of(uri)
    if filesystem.get_file_info(path).is_file:
        raise InputError(f"{what} {uri} is a file: name a folder")
    found = _entries(uri)
    listed = _listed(uri)
    # In an object store: a part of a folder, whose whole stands beside it.
    if listed is None and not storage.is_complete(uri):
        whole = [_listed(folder) for folder in (storage.sibling(uri, _PREVIOUS), *staging_folders(uri))]
        listed = set().union(*(entries for entries in whole if entries is not None))
    if listed is None:
        listed = {name for name in found if any(_fits(name, pattern) for pattern in ours)}
    foreign = _outermost(found - listed - {MARKER}, listed) + [f"{name}, a link" for name in _links(uri)]
    if foreign:
        more = " and more" if foreign[_ENTRIES_SHOWN:] else ""
        raise InputError(
            f"{what} {uri} holds {', '.join(foreign[:_ENTRIES_SHOWN])}{more}, which would be deleted: the "
            "whole folder is replaced, so give it one of its own"
        )


def _entries(uri: str) -> set[str]:
    """Returns the files and folders below `uri`, relative to it; a folder's name ends with a slash."""
    filesystem, path = filesystems.filesystem_of(storage.resolved(uri))
    infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True))
    return {posixpath.relpath(info.path, path) + ("" if info.is_file else "/") for info in infos}


def _listed(folder: str) -> set[str] | None:
    """Returns what the folder's marker lists; None where there is no list."""
    if not storage.is_complete(folder):
        return None
    try:
        return set(json.loads(storage.read_text(storage.join(folder, MARKER)))["entries"])
    except (ValueError, KeyError, TypeError):
        return None


def _fits(name: str, pattern: str) -> bool:
    """Returns whether each part of a path fits the pattern's: `a/part-0`, but no `a/b/part-0`, `*/part-*`."""
    parts, patterns = name.rstrip("/").split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _outermost(foreign: set[str], listed: set[str]) -> list[str]:
    """Returns foreign entries, sorted, without those below a foreign folder, nor folders above our own."""
    above_ours = {f"{name[:end]}/" for name in listed for end in range(len(name)) if name[end] == "/"}
    foreign = foreign - above_ours
    folders = tuple(name for name in foreign if name.endswith("/"))
    return sorted(
        name.rstrip("/")
        for name in foreign
        if not any(name != folder and name.startswith(folder) for folder in folders)
    )


def _links(uri: str) -> list[str]:
    """Returns the symbolic links below a local folder, relative to it."""
    filesystem, path = filesystems.filesystem_of(storage.resolved(uri))
    if not isinstance(filesystem, fs.LocalFileSystem):
        return []
    return sorted(
        os.path.relpath(os.path.join(folder, name), path)
        for folder, folders, files in os.walk(path)
        for name in (*folders, *files)
        if os.path.islink(os.path.join(folder, name))
    )
