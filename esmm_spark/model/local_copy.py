"""A local copy of a remote model: memory maps need files on this host."""

import fcntl
import hashlib
import os
import posixpath
from pathlib import Path

from pyarrow import fs

from esmm_spark import storage

_CACHE_VARIABLE = "ESMM_SPARK_CACHE"


def localize(uri: str) -> str:
    """Returns the local path of the complete folder at `uri`: its own, or that of a copy made once per host.

    Copies lie below $ESMM_SPARK_CACHE, by default ~/.cache/esmm_spark, by the hash of their URI: a folder
    whose content changes under the same URI keeps its old copy, so use it only for model versions, which
    never change. Processes that ask at the same time wait for the one that downloads.

    Raises:
        UnsafeFileError: the folder carries a pickle; nothing was downloaded.
        IncompleteError, InputError: it is half-written, or not there.
    """
    uri = uri.rstrip("/")
    filesystem, path = storage.filesystem_of(uri)
    storage.refuse_pickles(uri, "model")
    if isinstance(filesystem, fs.LocalFileSystem):
        return path
    cache = Path(os.environ.get(_CACHE_VARIABLE) or Path.home() / ".cache" / "esmm_spark") / "models"
    cache.mkdir(parents=True, exist_ok=True)
    name = f"{posixpath.basename(uri)}-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
    target = str(cache / name)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not storage.is_complete(target):
            storage.require_complete(uri, "model", "run esmm_spark/train.py")
            staged = storage.staging_path(target)
            storage.delete(staged)
            storage.make_directory(staged)
            fs.copy_files(
                path, staged, source_filesystem=filesystem, destination_filesystem=fs.LocalFileSystem()
            )
            storage.replace_directory(target)
    return target
