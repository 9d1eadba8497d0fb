"""Daily snapshots of a catalog: which ones a day needs, and when each holds."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from esmm_spark.contracts.errors import MissingLogError
from esmm_spark.contracts.events.catalog import Catalog
from esmm_spark.events.reading.day import Day
from esmm_spark.reading.files import list_log_files
from esmm_spark.reading.local_days import day_of_time, start_of_day_us


class CatalogFiles(NamedTuple):
    """The files of a catalog that a day reads.

    Attributes:
        files: path, and the day of the folder where they are snapshots.
        warnings: what was noticed about them.
    """

    files: Sequence[tuple[str, date | None]]
    warnings: Sequence[str] = ()


def choose_snapshots(catalog: Catalog, first_us: int, day: Day) -> CatalogFiles:
    """Returns the files of a catalog that hold in [first_us, the day's end); without day folders, all.

    Raises:
        MissingLogError: no snapshot holds on the day: all are newer, or there are none.
    """
    files = list_log_files(catalog.path, catalog.day_folders)
    if catalog.day_folders is None:
        return CatalogFiles(files)
    lag = timedelta(days=catalog.lag_days)
    wanted = day.date - lag
    known = sorted({found for _, found in files if found is not None and found <= wanted})
    if not known:
        raise MissingLogError(
            f"{day.name} needs the snapshot {catalog.day_folders}={wanted} of {catalog.path}, or one before "
            "it: no such folder; write it, or set a smaller lag_days; nothing was replaced"
        )
    first = day_of_time(first_us, catalog.time_zone) - lag
    begin = max((each for each in known if each <= first), default=known[0])
    warnings = []
    if known[-1] != wanted:
        warnings.append(
            f"{catalog.path} has no snapshot {catalog.day_folders}={wanted}: that of {known[-1]} holds"
        )
    chosen = [(path, found) for path, found in files if found is not None and begin <= found <= wanted]
    return CatalogFiles(chosen, warnings)


def validity_of(days: Iterable[date], catalog: Catalog) -> Mapping[date, tuple[int, int | None]]:
    """Returns day of a snapshot -> [from, to) in microseconds; no end where it is the newest.

    Example:
        Snapshots of November 1 and 3, a lag of a day: the first one holds on November 2 and 3, the other one
        from November 4 on.
    """
    ordered = sorted(days)
    lag = timedelta(days=catalog.lag_days)
    starts = [start_of_day_us(each + lag, catalog.time_zone) for each in ordered]
    ends: list[int | None] = [*starts[1:], None]
    # Without snapshots there is no end either.
    return dict(zip(ordered, zip(starts, ends, strict=False), strict=True))
