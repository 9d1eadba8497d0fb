"""How a day's finished folders take their places in a dataset.

The examples go last, with what the manifest says of the day in the same folder, by one rename: before it the
day's examples are what they were, after it the new ones. manifest.json follows, but whoever reads a manifest
reads the days' own folders (`manifest.read_manifest`). So a run may be killed anywhere, and is run again.
"""

from esmm_spark import storage
from esmm_spark.config import Config
from esmm_spark.manifest import (
    DAY_PARTITION,
    EXAMPLES,
    LABELS,
    REJECTS,
    DayPartition,
    Manifest,
    list_days,
    read_day,
    write_manifest,
)

# Below the staging folder: what write_examples writes, examples/ and rejects/.
GROUPED = "grouped"


def publish_day(dataset: str, staging: str, name: str, partition: DayPartition) -> None:
    """Puts the finished folders of a day in their places.

    Args:
        dataset: URI of the dataset, not relative.
        staging: holds `labels`, `rejects` and `grouped`.
        name: the partition: `ds=2026-11-23`.
        partition: what is in it.
    """
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
    for kind, folder in staged.items():
        target = storage.join(dataset, kind, name)
        storage.make_directory(storage.join(dataset, kind))
        storage.delete(storage.staging_path(target))
        storage.write_text(storage.join(folder, storage.MARKER), "")
        storage.move(folder, storage.staging_path(target))
        storage.replace_directory(target)


def write_day_manifest(dataset: str, config: Config) -> None:
    """Writes the manifest from what the days' own folders say, and the dataset's marker."""
    days = {name: read_day(dataset, name) for name in list_days(dataset)}
    manifest = Manifest(
        feature_spec=config.features,
        feature_spec_digest=config.features.digest,
        sources=[source for day in days.values() for source in day.day.sources],
        partitions={name: day.examples for name, day in days.items() if day.examples is not None},
        config=config.model_dump(mode="json"),
        days={name: day.day for name, day in days.items()},
    )
    write_manifest(dataset, manifest)
    storage.write_text(storage.join(dataset, storage.MARKER), "")
