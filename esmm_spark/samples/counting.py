"""Checks before a dataset or a day is published that its files hold what its manifest counts."""

from collections.abc import Iterable, Sequence

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.contracts.manifest import PartitionCounts, SourceCounts
from esmm_spark.files import footers
from esmm_spark.samples.example_files import examples_file_of
from esmm_spark.samples.examples import CUT_TOKENS

# The note of contexts that were made of a log's lines and then rejected: their impressions are, too.
REJECTED_CONTEXTS = "rejected_contexts"


def account_for(source: SourceCounts, written: Sequence[SourceCounts]) -> None:
    """Adds to a log's counts what became of the canonical lines that were made of it.

    Args:
        source: the log's; it has accepted a line for each impression.
        written: the counts of the contexts and of the impressions, as `write_examples` returns them.
    """
    contexts, impressions = written
    for reason, count in impressions.rejects.items():
        source.rejects[reason] = source.rejects.get(reason, 0) + count
    source.lines_accepted -= sum(impressions.rejects.values())
    notes = {
        REJECTED_CONTEXTS: sum(contexts.rejects.values()),
        CUT_TOKENS: contexts.notes.get(CUT_TOKENS, 0),
    }
    for note, count in notes.items():
        if count:
            source.notes[note] = source.notes.get(note, 0) + count


def require_accounted(sources: Sequence[SourceCounts], partitions: Iterable[PartitionCounts]) -> None:
    """Raises CountMismatchError unless all lines that logs have accepted are in the partitions."""
    accepted = sum(source.lines_accepted for source in sources)
    written = sum(counts.impressions for counts in partitions)
    if sources and accepted != written:
        raise CountMismatchError(
            f"{sources[0].name} ({sources[0].path}): {accepted} impressions accepted, but {written} in the "
            "examples: a defect, nothing was replaced"
        )


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
    rejected = sum(
        sum(source.rejects.values()) + source.notes.get(REJECTED_CONTEXTS, 0) for source in sources
    )
    footers.require_count(folder, rejects_files, rejected, "rejected lines")
    return paths
