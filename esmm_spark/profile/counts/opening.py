"""Looks at a path: which format its files have, whether they lie in day folders."""

from collections.abc import Sequence

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.files import filesystems
from esmm_spark.logs.heads import read_head
from esmm_spark.reading.files import list_log_files, parse_date

_DELIMITERS = (",", "\t", ";", "|")
_PARQUET_START = b"PAR1"
# A table's config has a feature at least; this one is never read.
_NO_FEATURES = {"nothing": {"constant": 0}}


def guess_table(path: str) -> TableLog:
    """Returns how the files at a path are read: their format, delimiter and day folders.

    Raises:
        InputError: nothing stands there, or it has no format that is read.
    """
    files = [file for file, _ in list_log_files(path, None)]
    if not files:
        raise InputError(f"{path} holds no lines: a table needs one at least")
    content: dict[str, object] = {"path": path, "features": _NO_FEATURES}
    content["day_folders"] = _day_folders(path, files)
    if not _is_parquet(files[0]):
        content |= _text_format(files[0])
    return TableLog.model_validate(content)


def _is_parquet(file: str) -> bool:
    filesystem, inner = filesystems.filesystem_of(file)
    with filesystem.open_input_file(inner) as stream:
        return bool(stream.read(len(_PARQUET_START)) == _PARQUET_START)


def _text_format(file: str) -> dict[str, object]:
    lines = read_head(file).text.splitlines()
    first = lines[0] if lines else ""
    if first.lstrip().startswith("{"):
        return {"file_format": "json"}
    delimiter = max(_DELIMITERS, key=first.count)
    if delimiter not in first:
        raise InputError(
            f"{file} is neither Parquet, JSON lines nor CSV: its first line is {first[:80]!r}: write it "
            "again as one of them"
        )
    if all(_is_number(cell) for cell in first.split(delimiter)):
        raise InputError(
            f"{file} begins with numbers, not with the names of its columns: write a config with "
            "logs.table.column_names, and name it by --config"
        )
    return {"file_format": "csv", "delimiter": delimiter}


def _day_folders(path: str, files: Sequence[str]) -> str | None:
    """Returns `ds` where all files lie in folders like ds=2026-11-23."""
    found = set()
    for file in files:
        names = set()
        for part in file.removeprefix(path).split("/")[:-1]:
            name, _, value = part.partition("=")
            try:
                parse_date(value)
                names.add(name)
            except ValueError:
                continue
        found.add(min(names, default=None))
    return found.pop() if len(found) == 1 else None


def _is_number(text: str) -> bool:
    try:
        float(text.strip().strip('"'))
    except ValueError:
        return False
    return True
