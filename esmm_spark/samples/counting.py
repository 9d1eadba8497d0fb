"""Checks before a dataset or a day is published that its files hold what its manifest counts."""

from collections.abc import Iterable, Sequence

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.contracts.manifest import PartitionCounts, SourceCounts
from esmm_spark.files import footers
from esmm_spark.samples.example_files import examples_file_of


def require_counted(
    folder: str,
    partitions: Iterable[PartitionCounts],
    rejects_files: Sequence[str],
    sources: Iterable[SourceCounts],
) -> list[str]:
    """Returns the examples' files, once all files are held against the counts.

    Args:
        folder: what paths are relative to.
        partitions: what the manifest says of the examples.
        rejects_files: the files of rejected lines.
        sources: what it says of the lines read.

    Raises:
        CountMismatchError: a file is missing, or its row groups, or all rejects, aren't what was counted.
    """
    files = [file for counts in partitions for file in counts.files]
    paths = [file.path for file in files]
    for file, footer in zip(files, footers.read_footers(folder, paths), strict=True):
        found = examples_file_of(file.path, footer)
        if (found.groups, found.impressions) != (file.groups, file.impressions):
            raise CountMismatchError(
                f"{file.path} in {folder} holds {sum(found.groups):,} groups of {sum(found.impressions):,} "
                f"impressions in {len(found.groups)} row groups, but {sum(file.groups):,} of "
                f"{sum(file.impressions):,} in {len(file.groups)} were counted: nothing was replaced"
            )
    rejected = sum(lines for source in sources for lines in source.rejects.values())
    footers.require_rows(folder, rejects_files, rejected, "rejected lines")
    return paths
