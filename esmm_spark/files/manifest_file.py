"""Manifests on disk: manifest.json of a dataset, and partition.json of each of its days."""

from esmm_spark.contracts.manifest import DayPartition, Manifest
from esmm_spark.contracts.schemas.layout import DAY_PARTITION, DAY_PREFIX, EXAMPLES, MANIFEST_NAME
from esmm_spark.files import storage
from esmm_spark.files.records import read_record


def write_manifest(dataset: str, manifest: Manifest) -> None:
    """Writes `manifest.json` into the folder `dataset`."""
    storage.write_text(storage.join(dataset, MANIFEST_NAME), manifest.model_dump_json(indent=1) + "\n")


def read_manifest(dataset: str) -> Manifest:
    """Returns the manifest of the complete dataset at `dataset`.

    Raises:
        InputError: no dataset there, or its manifest can't be read.
        IncompleteError: the dataset is half-written.
        UnsafeFileError: the dataset carries a pickle.
    """
    manifest = read_written_manifest(dataset)
    return manifest if manifest.days is None else _with_days(manifest, dataset)


def read_written_manifest(dataset: str) -> Manifest:
    """Returns the manifest as it was written: what it says of days may be older than they are.

    For runs that build a day, which may be one that can't be read. Raises as `read_manifest`.
    """
    storage.require_complete(dataset, "dataset", "run jobs/preprocess.py")
    storage.refuse_pickles(dataset, "dataset")
    uri = storage.join(dataset, MANIFEST_NAME)
    return read_record(uri, Manifest, "preprocess again")


def read_day(dataset: str, name: str) -> DayPartition:
    """Returns what a day's own folder says of it: `name` is like `ds=2026-11-23`."""
    uri = storage.join(dataset, EXAMPLES, name, DAY_PARTITION)
    return read_record(uri, DayPartition, "preprocess that day again")


def _with_days(manifest: Manifest, dataset: str) -> Manifest:
    """Returns the manifest with what the days' folders say.

    A day's folder and its counts are replaced by one rename, manifest.json after it: should a job be killed
    between the two, or two jobs build two days at once, the folders are right.
    """
    days = {name: read_day(dataset, name) for name in list_days(dataset)}
    return manifest.model_copy(
        update={
            "partitions": {name: day.examples for name, day in days.items() if day.examples is not None},
            "days": {name: day.day for name, day in days.items()},
            "sources": [source for day in days.values() for source in day.day.sources],
        }
    )


def list_days(dataset: str) -> list[str]:
    """Returns the day partitions of a dataset, `ds=2026-11-23`, in order.

    Raises:
        IncompleteError: a day is missing because it is being replaced, or was when its job was killed.
    """
    folder = storage.join(dataset, EXAMPLES)
    names = {name.removesuffix(".previous").lstrip(".") for name in storage.list_directories(folder)}
    days = sorted(name for name in names if name.startswith(DAY_PREFIX) and not name.endswith(".staging"))
    return [name for name in days if storage.await_complete(storage.join(folder, name))]
