"""Checks of a config's paths: inputs can be read, outputs be written, and datasets hold what they say."""

import os
import posixpath
import secrets
import shutil
from collections.abc import Iterator

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.disjoint_paths import FROZEN_FROM, ConfigPath, paths_of
from esmm_spark.contracts.errors import EsmmSparkError
from esmm_spark.doctor.finding import Finding, Outcome, right, wrong
from esmm_spark.files import storage
from esmm_spark.files.examples_file import check_files
from esmm_spark.files.fingerprints import fingerprints_at
from esmm_spark.files.footers import read_footers
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.files.write_errors import told_in_one_line

# The others are replaced: what is written stands beside them.
_WRITTEN_INTO = ("paths.model", "paths.scores")


def check_paths(config: Config) -> Iterator[Finding]:
    """Yields, path by path, whether it can be read or written."""
    for path in paths_of(config):
        # Most runs of event logs read what was fitted.
        is_only_read = path.key == FROZEN_FROM and storage.exists(path.value)
        yield _writable(path) if path.is_output and not is_only_read else _readable(path)


def check_counts_of_dataset(dataset: str) -> Iterator[Finding]:
    """Yields, partition by partition, whether its files hold the groups that the manifest counts."""
    if not storage.exists(dataset):
        yield Finding(Outcome.NOTE, "dataset", f"there is none at {dataset} yet")
        return
    try:
        manifest = read_manifest(dataset)
    except EsmmSparkError as error:
        yield wrong("dataset", str(error))
        return
    for name, counts in manifest.partitions.items():
        what = f"dataset {name}"
        try:
            check_files(dataset, counts)
            footers = read_footers(dataset, [file.path for file in counts.files])
        except EsmmSparkError as error:
            yield wrong(what, str(error))
            continue
        found = sum(footer.num_rows for footer in footers)
        text = f"{len(footers)} files hold {found:,} groups"
        if found == counts.groups:
            yield right(what, f"{text}, as the manifest says")
        else:
            yield wrong(what, f"{text}, the manifest says {counts.groups:,}: preprocess again")


def _readable(path: ConfigPath) -> Finding:
    try:
        files = fingerprints_at(path.value)
    except (EsmmSparkError, OSError) as error:
        # What scoring and evaluation read may come of steps that are still to be run.
        is_needed = path.key.startswith("logs.")
        return Finding(Outcome.FAILED if is_needed else Outcome.NOTE, path.key, str(error))
    if "://" not in path.value and not all(os.access(name, os.R_OK) for name, _, _ in files):
        return wrong(path.key, f"no permission to read all of the {len(files)} files at {path.value}")
    size = sum(size for _, size, _ in files)
    return right(path.key, f"{path.value}: {len(files)} files, {size / 2**20:,.1f} MiB")


def _writable(path: ConfigPath) -> Finding:
    """Returns whether a file can be written where leases and staging folders of a path are; none is left."""
    target = storage.resolved(path.value)
    folder = target if path.key in _WRITTEN_INTO else posixpath.dirname(target)
    is_local = "://" not in folder
    while is_local and not os.path.lexists(folder):
        folder = posixpath.dirname(folder)
    probe = storage.join(folder, f".esmm-spark-doctor.{secrets.token_hex(4)}")
    try:
        with told_in_one_line(f"{path.key} {path.value}"):
            storage.write_text(probe, "can this be written?")
            storage.delete(probe)
    except (EsmmSparkError, OSError) as error:
        return wrong(path.key, str(error))
    free = f", {shutil.disk_usage(folder).free / 2**30:,.1f} GiB free" if is_local else ""
    return right(path.key, f"{path.value} can be written{free}")
