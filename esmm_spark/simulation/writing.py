"""Spark tasks that write the parts of a simulation, and the check that all were written."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.contracts.schemas.columns import TRUTH_COLUMNS
from esmm_spark.contracts.schemas.layout import TRUTH
from esmm_spark.files import filesystems, storage
from esmm_spark.files.schemas import arrow_schema
from esmm_spark.simulation.lines import (
    JITTER_BITS,
    common_feature_indices,
    common_feature_lines,
    content_of,
    sample_ids,
    skeleton_lines,
)
from esmm_spark.simulation.parts import SPLITS, Part
from esmm_spark.simulation.randomness import IdHash
from esmm_spark.simulation.world import DrawnBlock, World
from esmm_spark.spark.tasks import TaskReport, run_tasks

_LINE_FEED = ord("\n")


class PartCounts(TaskReport):
    """What one part file of each kind holds; a part is a task."""

    contexts: int
    impressions: int
    clicks: int
    conversions: int
    skeleton_bytes: int
    common_features_bytes: int
    truth_bytes: int


def skeleton_file(part: Part) -> str:
    """Returns the path of a part's skeleton below the output folder."""
    return f"sample_skeleton_{part.split}/part-{part.number:05d}.csv"


def common_features_file(part: Part) -> str:
    """Returns the path of a part's common features below the output folder."""
    return f"common_features_{part.split}/part-{part.number:05d}.csv"


def truth_file(part: Part) -> str:
    """Returns the path of a part's truth below the output folder: both splits lie in one folder."""
    return f"{TRUTH}/part-{part.split}-{part.number:05d}.parquet"


def output_folders() -> list[str]:
    """Returns the folders that a simulation writes."""
    names = [f"{kind}_{split}" for kind in ("sample_skeleton", "common_features") for split in SPLITS]
    return [*names, TRUTH]


def write_parts(
    spark: SparkSession,
    world: World,
    seed: int,
    parts: Sequence[Part],
    folder: str,
    num_tasks: int | None = None,
) -> list[PartCounts]:
    """Writes all parts below `folder` and returns their counts in the order of `parts`.

    Args:
        spark: the session.
        world: what is drawn from.
        seed: of the common feature indices.
        parts: the parts of both splits.
        folder: holds `output_folders()`.
        num_tasks: Spark tasks, one per part by default. What is written doesn't depend on it.
    """
    return run_tasks(
        spark,
        "simulate impressions",
        len(parts),
        lambda attempt: _write_part(world, seed, parts[attempt.task], attempt.task, folder),
        PartCounts,
        num_tasks or len(parts),
    )


def require_written(parts: Sequence[Part], counts: Sequence[PartCounts], folder: str) -> None:
    """Raises unless the folder holds exactly the files, bytes and lines that were drawn.

    Args:
        parts: what was planned.
        counts: what the tasks report.
        folder: where they wrote.

    Raises:
        CountMismatchError: a part is of another size than planned or drawn.
    """
    expected: dict[str, int] = {}
    for part, count in zip(parts, counts, strict=True):
        if (count.contexts, count.impressions) != (part.num_groups, part.num_impressions):
            raise CountMismatchError(
                f"{skeleton_file(part)} has {count.impressions} impressions in {count.contexts} contexts, "
                f"{part.num_impressions} in {part.num_groups} were planned"
            )
        expected[skeleton_file(part)] = count.skeleton_bytes
        expected[common_features_file(part)] = count.common_features_bytes
        expected[truth_file(part)] = count.truth_bytes
    found = dict(storage.list_files(folder))
    differing = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if differing:
        name = differing[0]
        raise CountMismatchError(
            f"{len(differing)} files in {folder} aren't what was written, such as {name}: "
            f"{found.get(name)} bytes, {expected.get(name)} were written"
        )


def _write_part(world: World, seed: int, part: Part, number: int, folder: str) -> PartCounts:
    """Writes the three files of a part. A task that Spark runs again writes the same bytes again."""
    filesystem, root = filesystems.filesystem_of(folder)
    truths: list[pa.Table] = []
    contexts = impressions = clicks = conversions = 0
    with (
        filesystem.open_output_stream(storage.join(root, skeleton_file(part))) as skeleton,
        filesystem.open_output_stream(storage.join(root, common_features_file(part))) as common_features,
    ):
        for block, index, ids in _identified_blocks(world, seed, part):
            impressions += _write_lines(skeleton, skeleton_lines(block, ids, index))
            contexts += _write_lines(common_features, common_feature_lines(block, index))
            truths.append(_truth_table(block, ids))
            clicks += int(block.labels.click.sum())
            conversions += int(block.labels.conversion.sum())
        sizes = skeleton.tell(), common_features.tell()
    with filesystem.open_output_stream(storage.join(root, truth_file(part))) as stream:
        pq.write_table(pa.concat_tables(truths), stream, compression="zstd")
        truth_bytes = stream.tell()
    return PartCounts(
        task=number,
        contexts=contexts,
        impressions=impressions,
        clicks=clicks,
        conversions=conversions,
        skeleton_bytes=sizes[0],
        common_features_bytes=sizes[1],
        truth_bytes=truth_bytes,
    )


def _identified_blocks(
    world: World, seed: int, part: Part
) -> Iterator[tuple[DrawnBlock, pa.StringArray, pa.StringArray]]:
    """Yields the part's blocks, each with its groups' common feature indices and its impressions' ids."""
    group, sample_id = part.first_group, part.first_sample_id
    hashed = IdHash(seed, "common feature index")
    for block_number, num_groups in part.blocks:
        block = world.draw(part.stream, block_number, num_groups)
        numbers = np.arange(group, group + num_groups)
        jitter = hashed.below(1 << JITTER_BITS, np.int64(part.stream), numbers)
        num_impressions = len(block.labels.click)
        yield (
            block,
            common_feature_indices(numbers, part.groups_of_split, part.split == "test", jitter),
            sample_ids(sample_id, num_impressions),
        )
        group += num_groups
        sample_id += num_impressions


def _write_lines(stream: pa.NativeFile, lines: pa.StringArray) -> int:
    """Writes the lines and returns how many line feeds went out."""
    content = content_of(lines)
    stream.write(content)
    return int(np.count_nonzero(np.frombuffer(content, dtype=np.uint8) == _LINE_FEED))


def _truth_table(block: DrawnBlock, impression_id: pa.StringArray) -> pa.Table:
    labels = block.labels
    columns = [
        impression_id,
        pa.array(labels.pctr),
        pa.array(labels.pcvr),
        pa.array(labels.conversion_if_clicked.astype(np.int8)),
    ]
    return pa.Table.from_arrays(columns, schema=arrow_schema(TRUTH_COLUMNS))
