"""Fingerprints of files, to detect changes: names, sizes, modification times."""

import re
from pathlib import Path
from typing import Any

from pyarrow import fs

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.locations import glob_characters, glob_hint, glob_regex
from esmm_spark.files import filesystems

# Path, bytes and time of change in ns.
Fingerprint = tuple[str, int, int]


def fingerprints_of(what: str, uris: list[str]) -> list[Fingerprint]:
    """Returns the fingerprint of each file.

    Args:
        what: what the files belong to, for messages.
        uris: the files.

    Raises:
        InputError: a file is missing or empty.
    """
    found = []
    for uri in uris:
        filesystem, path = filesystems.filesystem_of(uri)
        info: Any = filesystem.get_file_info(path)
        if not info.is_file:
            raise InputError(f"{uri} is missing, {what} should have it: write {what} again")
        if info.size == 0:
            # Spark takes it for a file of no records.
            raise InputError(f"can't read {uri}: it is truncated, to 0 bytes: write {what} again")
        found.append(_fingerprint(info))
    return found


def fingerprints_at(uri: str) -> list[Fingerprint]:
    """Returns those of the files that Spark reads at `uri`, sorted: a file, a folder's, or a glob's.

    Raises:
        InputError: there is none.
    """
    filesystem, path = filesystems.filesystem_of(uri)
    kind = filesystem.get_file_info(path).type
    root, pattern = (path, "") if kind != fs.FileType.NotFound else _split_glob(path, uri)
    infos: list[Any] = (
        [filesystem.get_file_info(path)]
        if kind == fs.FileType.File
        else filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
    )
    matches = re.compile(re.escape(root) + pattern).fullmatch
    found = sorted(
        _fingerprint(info)
        for info in infos
        if info.is_file and _is_visible(info.path, root) and any(map(matches, _prefixes(info.path)))
    )
    if not found:
        raise InputError(f"no file at {uri}{glob_hint(uri)}")
    return found


def _split_glob(path: str, uri: str) -> tuple[str, str]:
    """Returns the folders of `path` before the glob that `uri` ends in, and that glob as a regex."""
    parts = path.split("/")
    # What a relative one begins with is nobody's glob.
    is_relative = "://" not in uri and not uri.startswith("/")
    written = len(str(Path.cwd()).split("/")) if is_relative else 0
    first = next((i for i, part in enumerate(parts) if i >= written and glob_characters(part)), len(parts))
    glob = "/".join(parts[first:])
    return "/".join(parts[:first]), f"/{glob_regex(glob)}" if glob else ""


def _fingerprint(info: Any) -> Fingerprint:
    return info.path, info.size, info.mtime_ns or 0


def _is_visible(path: str, root: str) -> bool:
    """Returns whether Spark reads the file: neither it nor a folder below `root` begins with `_` or `.`."""
    return not any(part.startswith(("_", ".")) for part in path.removeprefix(root).split("/"))


def _prefixes(path: str) -> list[str]:
    """Returns the path and the folders above it: a glob may match a folder, and means the files in it."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]
