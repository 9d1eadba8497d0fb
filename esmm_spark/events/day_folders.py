"""Replaces a day's folders in a dataset by newly built ones.

Each day has a lease of its own, so that two days may be built at once; for the moment in which a day takes
its place and the manifest is written, its run also holds the lease on the dataset (`dataset_lease`).

The examples go last, with what the manifest says of the day in the same folder, by one rename: before it the
day's examples are what they were, after it the new ones. manifest.json follows, but whoever reads a manifest
reads the days' own folders (`files.manifest_file`). So a run may be killed anywhere, and is run again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.manifest import VALUE_RULE, DayCounts, DayPartition, Manifest
from esmm_spark.contracts.schemas.layout import DAY_PARTITION, EXAMPLES, LABELS, MARKER, REJECTS
from esmm_spark.files import footers, replacing, seals, storage
from esmm_spark.files.lease import Lease, leased
from esmm_spark.files.manifest_file import list_days, read_day, write_manifest
from esmm_spark.files.write_errors import require_folder_possible, told_in_one_line
from esmm_spark.samples.counting import REJECTED_CONTEXTS, require_counted
from esmm_spark.samples.frozen import frozen_of, keep_vocabulary

# Below the staging folder: what write_examples writes, examples/ and rejects/.
GROUPED = "grouped"
# Another day's run holds the dataset's lease while it moves its folders, for a while in object stores.
_PATIENCE_S = 600.0
# What Spark and the tasks leave in a day's folder, for folders whose marker lists nothing.
_OURS = ("*.parquet", ".*.crc", DAY_PARTITION)


@contextmanager
def day_staging(dataset: str, name: str) -> Iterator[tuple[str, Lease]]:
    """Yields a folder in which this run alone writes the day `name`, deleted in the end, and the day's lease.

    Raises:
        TargetBusyError: another run builds that day.
        InputError, UnwritableError: the dataset can't be written.
    """
    what = f"paths.dataset {dataset}, day {name},"
    require_folder_possible(dataset, "paths.dataset")
    root = storage.resolved(dataset)
    target = storage.join(root, name)
    with told_in_one_line(what), leased(storage.sibling(target, "lease"), what) as lease:
        for staging in replacing.staging_folders(target):
            storage.delete(staging)
        staging = replacing.staging_path(target, lease.run)
        storage.make_directory(staging)
        # A run of this day that was killed may have left it under another name.
        for kind in (LABELS, REJECTS, EXAMPLES):
            replacing.recover(storage.join(root, kind, name))
            replacing.require_own_folder(storage.join(root, kind, name), "paths.dataset", _OURS)
        try:
            yield staging, lease
        finally:
            storage.delete(staging)


@contextmanager
def dataset_lease(dataset: str) -> Iterator[None]:
    """Holds the lease on the whole dataset for a moment; waits for the other days' runs, which do the same.

    Raises:
        TargetBusyError: another run replaces the whole dataset.
    """
    with leased(storage.sibling(dataset, "lease"), f"paths.dataset {dataset}", _PATIENCE_S):
        yield


def publish_day(dataset: str, staging: str, name: str, partition: DayPartition, lease: Lease) -> None:
    """Puts the finished folders of a day in their places.

    Args:
        dataset: URI of the dataset.
        staging: holds `labels`, `rejects` and `grouped`.
        name: the partition: `ds=2026-11-23`.
        partition: what is in it.
        lease: this run's on the day.

    Raises:
        CountMismatchError: the files hold other lines than `partition` says.
        LeaseLostError: another run took the day over.
        InputError: something foreign lies in the day's folders.
    """
    staged = _arrange(staging, name, partition)
    for kind, folder in staged.items():
        target = storage.join(dataset, kind, name)
        storage.make_directory(storage.join(dataset, kind))
        if storage.is_link(target):
            # It may lead to another disk, where nothing can be renamed to.
            beside = replacing.staging_path(target, lease.run)
            storage.move(folder, beside)
            folder = beside
        new = replacing.Replacement(storage.resolved(target), folder, lease, "paths.dataset", _OURS)
        if kind != EXAMPLES:
            # The manifest has the checksums of the examples, and of nothing else.
            new.digests = seals.digests_of(folder, {}, (".parquet",))
        new.publish()


def _arrange(staging: str, name: str, partition: DayPartition) -> dict[str, str]:
    """Returns kind -> the folder that will be the day's, once all lines in them are counted."""
    grouped = storage.join(staging, GROUPED)
    staged = {
        LABELS: storage.join(staging, LABELS),
        REJECTS: storage.join(staging, REJECTS),
        EXAMPLES: storage.join(grouped, EXAMPLES, name),
    }
    for file, _ in storage.list_files(storage.join(grouped, REJECTS), ".parquet"):
        storage.move(storage.join(grouped, REJECTS, file), storage.join(staged[REJECTS], file))
    storage.make_directory(staged[EXAMPLES])
    text = partition.model_dump_json(indent=1) + "\n"
    storage.write_text(storage.join(staged[EXAMPLES], DAY_PARTITION), text)
    examples = [] if partition.examples is None else [partition.examples]
    rejects = [f"{REJECTS}/{file}" for file, _ in storage.list_files(staged[REJECTS], ".parquet")]
    paths = require_counted(grouped, examples, [], [])
    replacing.require_files(
        staged[EXAMPLES], [DAY_PARTITION, *(path.removeprefix(f"{EXAMPLES}/{name}/") for path in paths)]
    )
    sources = partition.day.sources
    rejected = sum(
        sum(source.rejects.values()) + source.notes.get(REJECTED_CONTEXTS, 0) for source in sources
    )
    footers.require_count(staging, rejects, rejected, "rejected lines")
    labels = [f"{LABELS}/{file}" for file, _ in storage.list_files(staged[LABELS], ".parquet")]
    total = partition.day.join["impressions"]["total"]
    footers.require_count(staging, labels, total, "labels")
    return staged


def require_one_value_rule(dataset: str, days: Mapping[str, DayCounts], name: str) -> None:
    """Raises ConfigError if a day that is built now would hash its values to other buckets than the others.

    Args:
        dataset: URI of the dataset.
        days: partition -> what its manifest says of it.
        name: the partition that is built. One alone may be built again, whatever rule it followed.
    """
    others = [
        other
        for other, counts in days.items()
        if counts.value_rule != VALUE_RULE
        and other != name
        and storage.exists(storage.join(dataset, EXAMPLES, other))
    ]
    if others:
        more = f" and {len(others) - 1} more" if others[1:] else ""
        raise ConfigError(
            f"{others[0]}{more} in {dataset} are from when 11 and 11.0 were two values; they are one now, so "
            f"{name} would hash them to other buckets: set paths.dataset to another folder and build all "
            "days there"
        )


def write_day_manifest(dataset: str, config: Config) -> None:
    """Writes the manifest from what the days' own folders say, and the dataset's marker."""
    days = {name: read_day(dataset, name) for name in list_days(dataset)}
    frozen = frozen_of(config)
    if frozen is not None:
        keep_vocabulary(frozen, dataset)
    manifest = Manifest(
        feature_spec=config.features,
        feature_spec_digest=config.features.digest,
        tasks=config.tasks,
        carry=config.samples.carry,
        fitted={} if frozen is None else frozen.fitted,
        vocabulary_digest=None if frozen is None else frozen.vocabulary_digest,
        sources=[source for day in days.values() for source in day.day.sources],
        partitions={name: day.examples for name, day in days.items() if day.examples is not None},
        config=config.model_dump(mode="json"),
        days={name: day.day for name, day in days.items()},
    )
    write_manifest(dataset, manifest)
    storage.write_text(storage.join(dataset, MARKER), "")
