"""What a folder of outputs holds, as digests that say whether two runs wrote the same."""

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

# What a run may leave beside its output: records of runs, and what hides until a rerun has taken it away.
_RECORDS = re.compile(r"(\.run\.json|\.runs)(/|$)")
_HIDDEN = re.compile(r"(^|/)\.")
# Of the moment or of the place, not of the content.
_OF_THE_RUN = re.compile(
    r"(created|written|started|seconds|_s$|_at$|host|pid|version|run_id|inputs|impressions_per_s|sha256|digest)"
)

# Spark names the files of a write by one of these.
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

Contents = dict[str, str]


def contents(folder: Path) -> Contents:
    """Returns path -> digest of all files below `folder` that readers see; {} if it isn't there."""
    found: Contents = {}
    for name in names(folder):
        if not _HIDDEN.search(name):
            lasting = _UUID.sub("*", name)
            found[name if lasting in found else lasting] = _digest(folder / name)
    return found


def litter(folder: Path) -> list[str]:
    """Returns the hidden files below `folder`: staging, leases and what else a run needs while it goes on."""
    return [name for name in names(folder) if _HIDDEN.search(name) and not _is_checksum(folder / name)]


def _is_checksum(path: Path) -> bool:
    """Returns whether Hadoop wrote it beside the file that it is of."""
    return path.suffix == ".crc" and path.with_name(path.stem.removeprefix(".")).exists()


def names(folder: Path) -> list[str]:
    """Returns all files below `folder`, relative to it, without records of runs."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not _RECORDS.search(name))


def _digest(path: Path) -> str:
    if path.suffix == ".parquet":
        # Without the file's own metadata, which may name the moment.
        table = pq.read_table(path)
        return hashlib.sha256(repr([column.to_pylist() for column in table.columns]).encode()).hexdigest()
    content = path.read_bytes()
    if path.suffix == ".json" or path.name.startswith("_"):
        with suppress(ValueError):
            text = _UUID.sub("*", content.decode())
            content = json.dumps(_lasting(json.loads(text)), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _lasting(value: Any) -> Any:
    """Returns a JSON value without the keys that name the moment."""
    if isinstance(value, dict):
        return {key: _lasting(inner) for key, inner in value.items() if not _OF_THE_RUN.search(key)}
    if isinstance(value, list):
        return [_lasting(inner) for inner in value]
    return value
