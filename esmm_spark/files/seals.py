"""SHA-256 digests of a folder's small files, kept in its marker.

A marker is written last, so what it lists is what was written, and its folder takes its place as a whole. An
empty one, as in folders of before and those that Spark completes, says nothing, and their files are taken as
they are. So is that of a dataset of days, whose manifest is written again beside it: each day's folder has a
marker of its own, and the manifest is only asked for its feature spec, which has a digest.
"""

import hashlib
import json
import posixpath
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import filesystems, storage

KEY = "sha256"
_RECORDS = (".json", ".yaml")
# A file that isn't what its marker says may be one of a folder that is just being replaced.
_PATIENCE_S = 1.0
_PAUSE_S = 0.1
_READS_AT_ONCE = 8
_BLOCK_BYTES = 4 << 20


def digests_of(folder: str, known: Mapping[str, str], suffixes: Collection[str] = _RECORDS) -> dict[str, str]:
    """Returns file name -> SHA-256 of the files directly in a folder.

    Args:
        folder: its URI.
        known: those of some files, from when they were written.
        suffixes: how the names of the others end, which are read.
    """
    digests = dict(known)
    for name, _ in storage.list_files(folder, recursive=False):
        if name.endswith(tuple(suffixes)) and name not in digests and not name.startswith("."):
            digests[name] = _digest_of_file(storage.join(folder, name))
    return dict(sorted(digests.items()))


def seal(folder: str, suffixes: Collection[str]) -> None:
    """Writes the marker of a folder that no lease is held on, over Spark's own: digests, and nothing else."""
    content = {KEY: digests_of(folder, {}, suffixes)}
    storage.write_text(storage.join(folder, MARKER), json.dumps(content, indent=0) + "\n")


def read_sealed(uri: str, remedy: str) -> bytes:
    """Returns the content of a small file, which is what it was when its folder's marker was written.

    Args:
        uri: the file.
        remedy: what the user should do about another content ("train again").

    Raises:
        InputError: there is no such file, or it or its folder's marker is damaged or was changed.
    """
    folder, name = posixpath.split(uri)
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        content = storage.read_bytes(uri)
        listed = _read_marker(folder, remedy)
        if not listed or listed.get(name) == hashlib.sha256(content).hexdigest():
            return content
        if time.monotonic() > give_up:
            raise _changed(folder, name, listed, remedy)
        time.sleep(_PAUSE_S)


def verify(folder: str, names: Collection[str], remedy: str) -> None:
    """Reads files of a folder, and raises InputError unless they are what its marker says of them.

    Args:
        folder: its URI.
        names: files in it, each read as a stream.
        remedy: what the user should do about another content.
    """
    listed = _read_marker(folder, remedy)
    if not listed:
        return

    def check(name: str) -> None:
        if listed.get(name) != _digest_of_file(storage.join(folder, name)):
            raise _changed(folder, name, listed, remedy)

    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        # list: so that an exception is raised here.
        list(pool.map(check, names))


def verify_listed(folder: str, remedy: str) -> None:
    """Reads every file that a folder's marker lists, and raises as `verify` does.

    For files that no command reads, before a person does: rejects and labels.
    """
    verify(folder, list(_read_marker(folder, remedy)), remedy)


def _changed(folder: str, name: str, listed: Mapping[str, str], remedy: str) -> InputError:
    what = "has another SHA-256 than in" if name in listed else "is not listed in"
    return InputError(
        f"{storage.join(folder, name)} {what} {storage.join(folder, MARKER)}: one of the two is "
        f"damaged or was changed: {remedy}"
    )


def _read_marker(folder: str, remedy: str) -> dict[str, str]:
    """Returns file name -> SHA-256; nothing where there is no marker, or one that lists none."""
    uri = storage.join(folder, MARKER)
    if not storage.exists(uri):
        return {}
    content = storage.read_bytes(uri)
    if not content:
        return {}
    try:
        listed = json.loads(content).get(KEY, {})
        return {str(name): str(digest) for name, digest in listed.items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{uri} is damaged: {remedy}") from error


def _digest_of_file(uri: str) -> str:
    """Returns the SHA-256 of a file, which is read as a stream."""
    digest = hashlib.sha256()
    filesystem, path = filesystems.filesystem_of(uri)
    try:
        with filesystem.open_input_stream(path) as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    except FileNotFoundError as error:
        raise InputError(f"no file at {uri}") from error
    return digest.hexdigest()
