"""A run's record as Prometheus's text, for the textfile collector of its node exporter.

Every sample has the labels `command` and `output`, so that the files of several commands, which the collector
reads together, don't contradict each other. The partition is no label: a new one each day would be a new
series each day.

Source: Prometheus, "Exposition formats", text-based format, version 0.0.4.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from esmm_spark.contracts.schemas.run_record import RunRecord

_PREFIX = "esmm_spark_run_"


class _Family(NamedTuple):
    """A metric: its name without the prefix, what it says, and (labels, value) of each sample."""

    name: str
    meaning: str
    samples: list[tuple[Mapping[str, str], float]]


def metrics_text(record: RunRecord) -> str:
    """Returns the text; what a record doesn't know has no sample."""
    common = {"command": record.command, "output": record.output}
    lines = []
    for family in _families(record):
        if not family.samples:
            continue
        name = f"{_PREFIX}{family.name}"
        lines += [f"# HELP {name} {family.meaning}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels({**common, **labels})} {value!r}" for labels, value in family.samples]
    return "\n".join(lines) + "\n"


def _families(record: RunRecord) -> Iterator[_Family]:
    versions = {name: version for name, version in record.versions.items() if version}
    digest = {"config_digest": record.config_digest or ""}
    yield _Family("info", "What ran, as labels; the value is 1.", [({**versions, **digest}, 1)])
    yield _Family("exit_code", "0 if all of the output is complete.", [({}, record.exit_code)])
    for name, moment in (("start", record.started_at), ("end", record.ended_at)):
        seconds = datetime.fromisoformat(moment).timestamp()
        yield _Family(f"{name}_timestamp_seconds", f"When the run {name}ed.", [({}, seconds)])
    yield _Family("duration_seconds", "From start to end.", [({}, record.seconds)])
    yield _Family(
        "stage_duration_seconds",
        "Seconds of a named step.",
        [({"stage": stage.name}, stage.seconds) for stage in record.stages],
    )
    yield _Family("rows_in", "Rows read.", _known(record.rows_in))
    yield _Family("rows_out", "Rows written.", _known(record.rows_out))
    yield _Family(
        "rejected_rows",
        "Rejected lines by reason.",
        [({"reason": reason}, count) for reason, count in record.rejects.items()],
    )
    yield _Family("output_bytes", "Bytes of the output's files.", _known(record.bytes_out))
    yield _Family("peak_memory_bytes", "Most memory at one time.", _known(record.peak_memory_bytes))


def _known(value: int | None) -> list[tuple[Mapping[str, str], float]]:
    return [] if value is None else [({}, value)]


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
