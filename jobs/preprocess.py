#!/usr/bin/env python
"""Joins, hashes and groups raw logs into a dataset: examples, rejects and a manifest.

spark-submit jobs/preprocess.py --config conf/demo.yaml [key=value ...]
"""

import time
from collections.abc import Sequence

from esmm_spark.command import config_parser, parse_config, run_command
from esmm_spark.manifest import Manifest

_EXAMPLE = "spark-submit jobs/preprocess.py --config conf/demo.yaml samples.row_group_mb=2"


def main(argv: Sequence[str]) -> None:
    """Writes the dataset in the place of the one that is there, and prints what is in it."""
    _, config = parse_config(
        config_parser("Joins, hashes and groups raw logs into examples, rejects and a manifest.", _EXAMPLE),
        argv,
    )
    from esmm_spark.samples.dataset import preprocess
    from esmm_spark.session import spark_session

    spark = spark_session("esmm_spark preprocess")
    started = time.monotonic()
    manifest = preprocess(spark, config)
    _print_summary(manifest, config.paths.dataset, time.monotonic() - started)


def _print_summary(manifest: Manifest, dataset: str, seconds: float) -> None:
    for source in manifest.sources:
        rejects = ", ".join(f"{reason} {count:,}" for reason, count in source.rejects.items()) or "none"
        notes = "".join(f"; {note.replace('_', ' ')} {count:,}" for note, count in source.notes.items())
        print(f"{source.name}: {source.lines_read:,} lines, rejects: {rejects}{notes}")
    _print_row("partition", "groups", "impressions", "clicks", "conversions", "row groups")
    for name, counts in manifest.partitions.items():
        numbers = (
            counts.groups,
            counts.impressions,
            counts.clicks,
            counts.conversions,
            counts.num_row_groups,
        )
        _print_row(name, *(f"{number:,}" for number in numbers))
    total = sum(counts.impressions for counts in manifest.partitions.values())
    print(f"{dataset}: {total:,} impressions in {seconds:.1f} s, {total / seconds:,.0f} impressions/s")


def _print_row(name: str, *cells: str) -> None:
    print(f"{name:<18}" + "".join(f"{cell:>13}" for cell in cells))


if __name__ == "__main__":
    run_command(main)
