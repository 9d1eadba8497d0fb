"""Which partitions of a dataset a run takes: one, or a range of days.

split=train                       one partition
ds in [2026-11-01, 2026-11-20]    those days, both ends included, and none may be missing
"""

import re
from datetime import date, timedelta

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.manifest import Manifest, PartitionCounts, add_counts
from esmm_spark.contracts.schemas.layout import DAY_PREFIX, VALIDATION_PARTITION

_AFTER = re.compile(r"^ds > (\S+)$")
_RANGE = re.compile(r"^ds in \[(\S+), ?(\S+)\]$")


def select(manifest: Manifest, selection: str, dataset: str) -> PartitionCounts:
    """Returns the counts, files included, of all partitions of a selection together.

    Args and errors are those of `partitions_of`; one partition may be empty.
    """
    parts = partitions_of(manifest, selection, dataset)
    return parts[selection] if selection in parts else add_counts(list(parts.values()))


def partitions_of(manifest: Manifest, selection: str, dataset: str) -> dict[str, PartitionCounts]:
    """Returns name -> counts of the partitions of a selection, in their order.

    Args:
        manifest: of the dataset.
        selection: as above.
        dataset: for messages.

    Raises:
        ConfigError: a range that ends before it begins, or one with a day that is none.
        InputError: the dataset lacks the partition or a day of the range, or all of them are empty.
    """
    if match := _AFTER.match(selection):
        day = f"{DAY_PREFIX}{match[1]}"
        later = sorted(name for name in manifest.partitions if name.startswith(DAY_PREFIX) and name > day)
        return _not_empty({name: manifest.partitions[name] for name in later}, selection)
    days = _days_of(selection)
    if days is None:
        return {selection: manifest.partition(selection, dataset)}
    built = manifest.days or {}
    missing = [day for day in days if day not in built and day not in manifest.partitions]
    if missing:
        more = f" and {len(missing) - 1} more days" if len(missing) > 1 else ""
        raise InputError(
            f"{selection}: dataset {dataset} has no {missing[0]}{more}: run jobs/preprocess.py --ds "
            f"{missing[0].removeprefix(DAY_PREFIX)}, or take other days"
        )
    # A day on which no impression was left has no examples.
    return _not_empty(
        {day: manifest.partitions[day] for day in days if day in manifest.partitions}, selection
    )


def default_validation(manifest: Manifest, train: str) -> str | None:
    """Returns the validation partitions of a config that names none; None where the dataset has none.

    The held out share of a split; after days, all later ones.
    """
    days = _days_of(train)
    last = days[-1] if days is not None else train
    if not last.startswith(DAY_PREFIX):
        return VALIDATION_PARTITION if VALIDATION_PARTITION in manifest.partitions else None
    later = any(name.startswith(DAY_PREFIX) and name > last for name in manifest.partitions)
    return f"ds > {last.removeprefix(DAY_PREFIX)}" if later else None


def _days_of(selection: str) -> list[str] | None:
    """Returns the partitions of a range of days, in order; None for a single partition."""
    match = _RANGE.match(selection)
    if match is None:
        return None
    try:
        first, last = (date.fromisoformat(text) for text in match.groups())
    except ValueError as error:
        raise ConfigError(f"{selection}: {error}, write days like 2026-11-23") from error
    if last < first:
        raise ConfigError(f"{selection} ends before it begins")
    return [f"{DAY_PREFIX}{first + timedelta(days=number)}" for number in range((last - first).days + 1)]


def _not_empty(parts: dict[str, PartitionCounts], selection: str) -> dict[str, PartitionCounts]:
    if not parts:
        raise InputError(f"{selection}: no day of it holds an impression")
    return parts
