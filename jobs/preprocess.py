#!/usr/bin/env python
"""Joins, hashes and groups raw logs into a dataset: examples, rejects and a manifest.

spark-submit jobs/preprocess.py --config conf/demo.yaml [key=value ...]
spark-submit jobs/preprocess.py --config conf/events.yaml --fit FIRST LAST [--as-of TIME] [key=value ...]
spark-submit jobs/preprocess.py --config conf/events.yaml --ds DAY [--as-of TIME] [--backfill] [key=value ...]
"""

import argparse
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from esmm_spark.commands.command import config_parser, parse_config, run_command
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.disjoint_paths import FROZEN_FROM, paths_of
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.fields.fitted import digest_of_fitted
from esmm_spark.contracts.manifest import DayCounts, PartitionCounts, SourceCounts
from esmm_spark.contracts.schemas.layout import EXAMPLES, LABELS, REJECTS
from esmm_spark.events.reading.day import Day, parse_day
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.runtime.run_notes import this_run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_log = logging.getLogger("esmm_spark.jobs.preprocess")
_SESSION = {"spark.python.daemon.module": "esmm_spark.samples.daemon"}
_EXAMPLE = "spark-submit jobs/preprocess.py --config conf/demo.yaml samples.row_group_mb=2"


def main(argv: Sequence[str]) -> None:
    """Writes the dataset, or a day of it, in the place of what is there, and prints what is in it."""
    parser = config_parser(
        "Joins, hashes and groups raw logs into examples, rejects and a manifest.", _EXAMPLE
    )
    parser.add_argument("--ds", metavar="DAY", help="event logs: the day to build, e.g. 2026-11-23")
    parser.add_argument(
        "--as-of",
        metavar="TIME",
        help="event logs: leave out what is later, e.g. 2026-11-24T06:00:00; without an offset it is of "
        "logs.events.time_zone",
    )
    parser.add_argument(
        "--backfill",
        action="store_true",
        help="event logs: also build each earlier day of the dataset whose labels have changed since",
    )
    parser.add_argument(
        "--backfill-days",
        type=int,
        metavar="N",
        help="event logs: --backfill, N days back; by default those that the windows can still change",
    )
    parser.add_argument(
        "--fit",
        nargs=2,
        metavar=("FIRST", "LAST"),
        help="event logs: fit boundaries and count values on these days into samples.frozen_from, and build "
        "none",
    )
    parser.add_argument(
        "--allow-missing",
        action="append",
        default=[],
        metavar="LOG",
        help="event logs: it is right that this log (of logs.events) has no lines of the day; repeatable, or "
        "with commas",
    )
    arguments, config = parse_config(parser, argv)
    is_events = config.logs.format == "events"
    if is_events and arguments.fit is not None:
        _fit_days(config, arguments)
        return
    if is_events and arguments.ds is None:
        raise ConfigError("logs.format is events: name the day to build, e.g. --ds 2026-11-23")
    looks_back = arguments.backfill or arguments.backfill_days is not None
    is_dated = arguments.ds or arguments.as_of or looks_back or arguments.allow_missing or arguments.fit
    if not is_events and is_dated:
        raise ConfigError(
            "--ds, --as-of, --backfill, --fit and --allow-missing are for event logs, and logs.format is "
            f"{config.logs.format}" + (": set logs.table.as_of" if config.logs.format == "table" else "")
        )
    if is_events:
        if arguments.backfill_days is not None and arguments.backfill_days < 1:
            raise ConfigError(f"--backfill-days {arguments.backfill_days}: must be at least 1")
        day = parse_day(arguments.ds, arguments.as_of, config.funnel.events.time_zone)
        this_run().writes(config.paths.dataset, day.name, (EXAMPLES, LABELS, REJECTS))
        allowed_missing = _logs_named(config, arguments.allow_missing)
        _build_days(config, day, looks_back, arguments.backfill_days, allowed_missing)
        return
    this_run().writes(config.paths.dataset)
    from esmm_spark.logs.formats import reader_of
    from esmm_spark.samples.dataset import preprocess, read_splits
    from esmm_spark.tables.table_log import read_table

    is_table = config.logs.format == "table"
    if not is_table:
        reader_of(config.logs.format)
    with _session(config) as spark:
        started = time.monotonic()
        manifest = preprocess(spark, config, read_table if is_table else read_splits)
        seconds = time.monotonic() - started
    _print_summary(manifest.sources, manifest.partitions, config.paths.dataset, seconds)


def _logs_named(config: Config, texts: Sequence[str]) -> list[str]:
    """Returns the logs that `--allow-missing` names."""
    names, known = [name.strip() for text in texts for name in text.split(",")], [*config.funnel.logs]
    for name in names:
        if name not in known:
            raise ConfigError(f"--allow-missing {name}: must be one of {', '.join(known)}")
    return names


def _session(config: Config, written: str = "paths.dataset") -> AbstractContextManager["SparkSession"]:
    from esmm_spark.spark.session import job_session

    paths = [path for path in paths_of(config) if path.key.startswith(("logs.", written))]
    return job_session("esmm_spark preprocess", paths, _SESSION)


def _fit_days(config: Config, arguments: argparse.Namespace) -> None:
    """Writes `samples.frozen_from` from the days of `--fit`, and prints what is in it."""
    target = config.samples.frozen_from
    if target is None:
        raise ConfigError(f"--fit writes {FROZEN_FROM}: set it")
    if arguments.ds is not None or arguments.backfill or arguments.backfill_days is not None:
        raise ConfigError("--fit builds no day: leave --ds and --backfill out")
    zone = config.funnel.events.time_zone
    first, last = (parse_day(day, arguments.as_of, zone, "--fit") for day in arguments.fit)
    this_run().writes(target)
    from esmm_spark.events.fit_days import fit_days

    with _session(config, FROZEN_FROM) as spark:
        manifest = fit_days(spark, config, first, last, _logs_named(config, arguments.allow_missing))
    for name, fitted in manifest.fitted.items():
        print(f"{name}: {len(fitted.boundaries)} boundaries, mean {fitted.mean:g}, scale {fitted.scale:g}")
    print(f"{target}: fitted on {first.date} to {last.date}, {digest_of_fitted(manifest.fitted)}")


def _build_days(
    config: Config, day: Day, looks_back: bool, num_days: int | None, allowed_missing: Sequence[str]
) -> None:
    from esmm_spark.events.backfill import days_that_can_change
    from esmm_spark.events.days import build_days

    backfill_days = (num_days or days_that_can_change(config.funnel)) if looks_back else 0
    with _session(config) as spark:
        started = time.monotonic()
        written, left_alone = build_days(spark, config, day, backfill_days, allowed_missing)
        seconds = time.monotonic() - started
    manifest = read_manifest(config.paths.dataset)
    assert manifest.days is not None
    for warning in dict.fromkeys(text for name in written for text in manifest.days[name].warnings):
        _log.warning(warning)
    sources = [source for name in written for source in manifest.days[name].sources]
    partitions = {name: manifest.partitions[name] for name in written if name in manifest.partitions}
    _print_summary(sources, partitions, config.paths.dataset, seconds)
    for name in written:
        _print_day(name, manifest.days[name])
    if looks_back:
        earlier = ", ".join(written[1:]) or "none"
        print(f"earlier days whose labels had changed, built again: {earlier}")
        print(f"earlier days whose logs are no longer whole, left alone: {', '.join(left_alone) or 'none'}")
    for reason in left_alone.values():
        _log.warning("left alone: %s", reason)


def _print_day(name: str, day: DayCounts) -> None:
    parts = []
    for log in day.join["delay_s"]:
        counts = day.join[log]
        parts.append(
            f"{counts['matched']:,} of {counts['total']:,} {log} matched, "
            f"{counts['orphans'] + counts['of_orphan_causes']:,} orphans"
        )
        if counts["of_earlier_causes"]:
            parts[-1] += f", {counts['of_earlier_causes']:,} of earlier causes"
    print(f"{name}: {'; '.join(parts)}; {day.immature:,} impressions immature")


def _print_summary(
    sources: list[SourceCounts], partitions: dict[str, PartitionCounts], dataset: str, seconds: float
) -> None:
    for source in sources:
        rejects = ", ".join(f"{reason} {count:,}" for reason, count in source.rejects.items()) or "none"
        notes = "".join(f"; {note.replace('_', ' ')} {count:,}" for note, count in source.notes.items())
        print(f"{source.name}: {source.lines_read:,} lines, rejects: {rejects}{notes}")
    total = sum(counts.impressions for counts in partitions.values())
    by_reason: Counter[str] = sum((Counter(source.rejects) for source in sources), Counter())
    this_run().counted(sum(source.lines_read for source in sources), total, by_reason)
    tasks = list(next(iter(partitions.values())).positives) if partitions else []
    _print_row("partition", "groups", "impressions", *tasks, "row groups")
    for name, counts in partitions.items():
        numbers = (
            counts.groups,
            counts.impressions,
            *counts.positives.values(),
            counts.num_row_groups,
        )
        _print_row(name, *(f"{number:,}" for number in numbers))
    print(f"{dataset}: {total:,} impressions in {seconds:.1f} s, {total / seconds:,.0f} impressions/s")


def _print_row(name: str, *cells: str) -> None:
    print(f"{name:<18}" + "".join(f"{cell:>13}" for cell in cells))


if __name__ == "__main__":
    run_command(main)
