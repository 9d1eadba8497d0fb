"""A local copy of a remote model or checkpoint: memory maps need files on this host."""

import fcntl
import hashlib
import os
import posixpath
from pathlib import Path

from pyarrow import fs

from esmm_spark.files import filesystems, storage
from esmm_spark.files.replacing import replacing

_CACHE_VARIABLE = "ESMM_SPARK_CACHE"


def localize(uri: str) -> str:
    """Returns the local path of the complete folder at `uri`: its own, or that of a copy made once per host.

    Copies lie below $ESMM_SPARK_CACHE, by default ~/.cache/esmm_spark, by a hash of the URI and of its files'
    names, sizes and times: a folder that was written again under the same URI, as a checkpoint is when a run
    starts over, is copied again. Processes that ask at the same time wait for the one that downloads.

    Raises:
        UnsafeFileError: the folder carries a pickle; nothing was downloaded.
        IncompleteError, InputError: it is half-written, or not there.
    """
    uri = uri.rstrip("/")
    filesystem, path = filesystems.filesystem_of(uri)
    storage.refuse_pickles(uri, "model")
    if isinstance(filesystem, fs.LocalFileSystem):
        return path
    cache = Path(os.environ.get(_CACHE_VARIABLE) or Path.home() / ".cache" / "esmm_spark") / "models"
    cache.mkdir(parents=True, exist_ok=True)
    name = f"{posixpath.basename(uri)}-{_digest(uri, filesystem, path)}"
    target = str(cache / name)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not storage.is_complete(target):
            storage.require_complete(uri, "model", "run esmm_spark/train.py")
            # A copy that was cut off. Nobody keeps anything of his own there.
            storage.delete(target)
            with replacing(target, "the copy of a model", ()) as new:
                fs.copy_files(
                    path,
                    new.folder,
                    source_filesystem=filesystem,
                    destination_filesystem=fs.LocalFileSystem(),
                )
    return target


def _digest(uri: str, filesystem: fs.FileSystem, path: str) -> str:
    """Returns 12 hex digits of the URI and of what lies there, without reading it."""
    infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True))
    files = sorted((info.path, info.size, info.mtime_ns or 0) for info in infos if info.is_file)
    return hashlib.sha256(repr((uri, files)).encode()).hexdigest()[:12]
