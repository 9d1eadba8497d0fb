"""Whether files are still those that they were: their names, sizes and times of change."""

import re
from typing import Any

from pyarrow import fs

from esmm_spark import storage
from esmm_spark.errors import InputError

_GLOB_CHARACTERS = frozenset("*?[{")

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
        filesystem, path = storage.filesystem_of(uri)
        info: Any = filesystem.get_file_info(path)
        if not info.is_file:
            raise InputError(f"{uri} is missing, {what} should have it: write {what} again")
        if info.size == 0:
            # Spark takes it for a file of no rows.
            raise InputError(f"can't read {uri}: it is truncated, to 0 bytes: write {what} again")
        found.append(_fingerprint(info))
    return found


def fingerprints_at(uri: str) -> list[Fingerprint]:
    """Returns those of the files that Spark reads at `uri`, sorted: a file, a folder's, or a glob's.

    Raises:
        InputError: there is none.
    """
    filesystem, path = storage.filesystem_of(uri)
    parts = path.split("/")
    globs = [index for index, part in enumerate(parts) if _GLOB_CHARACTERS.intersection(part)]
    is_file = filesystem.get_file_info(path).type == fs.FileType.File
    root = "/".join(parts[: globs[0]]) if globs and not is_file else path
    pattern = re.compile(_regex_of_glob(path) if root != path else re.escape(path))
    infos: list[Any] = (
        [filesystem.get_file_info(path)]
        if is_file
        else filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
    )
    found = sorted(
        _fingerprint(info)
        for info in infos
        if info.is_file and _is_visible(info.path, root) and any(map(pattern.fullmatch, _prefixes(info.path)))
    )
    if not found:
        raise InputError(f"no file at {uri}")
    return found


def _fingerprint(info: Any) -> Fingerprint:
    return info.path, info.size, info.mtime_ns or 0


def _is_visible(path: str, root: str) -> bool:
    """Returns whether Spark reads the file: neither it nor a folder below `root` begins with `_` or `.`."""
    return not any(part.startswith(("_", ".")) for part in path.removeprefix(root).split("/"))


def _prefixes(path: str) -> list[str]:
    """Returns the path and the folders above it: a glob may match a folder, and means the files in it."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _regex_of_glob(glob: str) -> str:
    """Returns Hadoop's glob as a regular expression: `*`, `?`, `[a-c]`, `[^a]` and `{a,b}`."""
    simple = {"*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", "[": "[", "]": "]"}
    regex, in_braces, in_brackets = "", 0, False
    for character in glob:
        in_braces += {"{": 1, "}": -1}.get(character, 0)
        in_brackets = character == "[" or (in_brackets and character != "]")
        if in_brackets and character in "-^":
            regex += character
        elif character == "," and in_braces:
            regex += "|"
        else:
            regex += simple.get(character, re.escape(character))
    return regex
