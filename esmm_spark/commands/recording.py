"""The record of a run: beside its output, and as Prometheus's text where `--metrics-file` asks for it.

A record that can't be written is a warning: the run itself has succeeded.
"""

import logging
import os
import platform
import posixpath
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata

import esmm_spark
from esmm_spark.commands.metrics_file import metrics_text
from esmm_spark.contracts.errors import EsmmSparkError, TargetBusyError
from esmm_spark.contracts.locations import place_of, redacted
from esmm_spark.contracts.schemas.run_record import RunRecord, StageRecord, record_uri
from esmm_spark.runtime.run_notes import Error, Output, RunNotes, this_run

_log = logging.getLogger(__name__)
_LIBRARIES = ("pyspark", "torch", "horovod", "petastorm", "pyarrow", "numba", "numpy")
_MOST_ERROR_CHARACTERS = 2000


def write_records(notes: RunNotes, arguments: Sequence[str], exit_code: int, error: Error) -> None:
    """Writes what there is to be said of a run that ends.

    A run that never came to know its output has nothing to write a record beside, and that of one which was
    refused because another run writes the output is that run's.

    Args:
        notes: of the run.
        arguments: of its command line.
        exit_code: with which it ends.
        error: why it failed; None where it didn't.
    """
    try:
        record = record_of(notes, arguments, exit_code, error)
        output = notes.output
        if output is not None and output.is_recorded and not isinstance(error, TargetBusyError):
            _write_beside(output, record)
        if notes.metrics_file is not None:
            _write_metrics(notes.metrics_file, record)
    except Exception as problem:
        _log.warning("the run's record is not written: %s", redacted(" ".join(str(problem).split())))


def record_of(notes: RunNotes, arguments: Sequence[str], exit_code: int, error: Error) -> RunRecord:
    """Returns the record of a run that ends now; arguments as of `write_records`."""
    output = notes.output
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return RunRecord(
        command=os.path.basename(sys.argv[0]).removesuffix(".py"),
        arguments=[redacted(argument) for argument in arguments],
        config_digest=notes.config_digest,
        output=redacted(output.root) if output is not None else "",
        partition=output.partition if output is not None else None,
        versions=_versions(),
        host=socket.gethostname(),
        started_at=_utc(notes.started_s),
        ended_at=_utc(time.time()),
        seconds=round(time.monotonic() - notes.begun_s, 3),
        stages=[StageRecord(name=name, seconds=round(s, 3)) for name, s in notes.stages.items()],
        rows_in=notes.rows_in,
        rows_out=notes.rows_out,
        rejects=notes.rejects,
        bytes_out=_bytes_in(output) if exit_code == 0 and output is not None else None,
        peak_memory_bytes=max(notes.peak_memory_bytes, resident),
        exit_code=exit_code,
        error=_line(error),
    )


def note_record_of_ranks(root: str) -> None:
    """Notes what the record beside `root` counts, which the first rank of this run has written."""
    from esmm_spark.files import storage

    record = RunRecord.model_validate_json(storage.read_bytes(record_uri(root, None)))
    notes = this_run()
    notes.counted(record.rows_in, record.rows_out, record.rejects)
    notes.stages |= {stage.name: stage.seconds for stage in record.stages}
    notes.peak_memory_bytes = record.peak_memory_bytes


def _write_beside(output: Output, record: RunRecord) -> None:
    # pyarrow is slow to import, and --help and mistakes in a config do without it.
    from esmm_spark.files import storage

    if not place_of(output.root).parts:
        _log.warning("no record of the run: nothing can lie beside %s", output.root)
        return
    uri = record_uri(output.root, output.partition)
    parent = posixpath.dirname(output.root) or "."
    # A failed run leaves no folder that it would have made. Object stores have none.
    if record.exit_code != 0 and "://" not in uri and not storage.exists(parent):
        return
    storage.write_text(uri, record.model_dump_json(indent=1) + "\n")


def _write_metrics(path: str, record: RunRecord) -> None:
    from esmm_spark.files import storage

    storage.write_text(path, metrics_text(record))


def _bytes_in(output: Output) -> int:
    from esmm_spark.files import storage

    return sum(size for folder in output.folders for _, size in storage.list_files(folder))


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {
        "esmm_spark": esmm_spark.__version__,
        "python": platform.python_version(),
    }
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _line(error: Error) -> str | None:
    """Returns an error in one line, as the user gets it; of a defect, its class and message."""
    if error is None:
        return None
    text = str(error)
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 0
        text = f"stopped by {signal.Signals(code - 128).name}" if code > 128 else text
    elif isinstance(error, BaseException) and not isinstance(error, EsmmSparkError):
        text = f"{type(error).__name__}: {text}"
    return redacted(" ".join(text.split()))[:_MOST_ERROR_CHARACTERS]


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
