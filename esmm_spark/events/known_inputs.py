"""Remembers which files a day's labels came from: a backfill skips days whose files are the same.

`<dataset>/inputs.json` says of each day: with these files, this config and this `--as-of` its labels have
that digest. A backfill that finds the same files, by name, size and time of change, leaves the day alone
unread. An entry counts only while the day has those labels, so the file may be out of date, or deleted, at
any time: the day is looked at then.
"""

import hashlib
import json
from typing import NamedTuple

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.funnel import Funnel
from esmm_spark.contracts.manifest import VALUE_RULE
from esmm_spark.contracts.schemas.layout import DAY_INPUTS
from esmm_spark.events.join.sources import DayFiles, time_ranges
from esmm_spark.events.reading.day import Day
from esmm_spark.files import storage


class KnownInputs(NamedTuple):
    """Digests of a day's labels and of the files that they came from.

    Attributes:
        label_digest: of the labels.
        inputs_digest: what `digest_of_inputs` gave.
    """

    label_digest: str
    inputs_digest: str


def digest_of_inputs(funnel: Funnel, day: Day, files: DayFiles) -> str:
    """Returns a text that is the same only if the day's labels must be.

    Args:
        funnel: the logs' config and the tasks.
        day: the day. Its `as_of` has a part in it only if what matters may have happened, or come, later.
        files: those that the day reads.
    """
    last_us = max(last for _, last in time_ranges(funnel, day).values())
    is_all_known = day.as_of_us is None or (day.as_of_us >= last_us and not funnel.arriving)
    as_of_us = None if is_all_known else day.as_of_us
    links = [(link.task, link.cause_task) for link in funnel.links]
    content = [VALUE_RULE, funnel.events.model_dump(mode="json"), links, list(files.fingerprints), as_of_us]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_known_inputs(dataset: str) -> dict[str, KnownInputs]:
    """Returns `ds=2026-11-23` -> what is known of the day; nothing where the file is damaged or not there."""
    try:
        content = json.loads(storage.read_text(storage.join(dataset, DAY_INPUTS)))
        return {name: KnownInputs(*map(str, digests)) for name, digests in content.items()}
    except (OSError, InputError, ValueError, TypeError, AttributeError):
        return {}


def remember_inputs(dataset: str, name: str, inputs: KnownInputs) -> None:
    """Writes what is known of a day; its caller holds the dataset's lease."""
    known = {**read_known_inputs(dataset), name: inputs}
    storage.write_text(storage.join(dataset, DAY_INPUTS), json.dumps(known, indent=1) + "\n")
