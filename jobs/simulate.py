#!/usr/bin/env python
"""Simulates logs in Ali-CCP's raw format, as events or as a table, the first two with true pCTR and pCVR.

spark-submit jobs/simulate.py --output DIR --num-groups N --seed S [--preset demo|aliccp]
spark-submit jobs/simulate.py --format events|table --num-days 4 --output DIR --num-groups N --seed S
"""

import argparse
from collections.abc import Sequence
from datetime import date

from esmm_spark.commands.command import OneLineParser, parse_output, run_command
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.runtime.run_notes import this_run


def main(argv: Sequence[str]) -> None:
    """Writes the files, and prints how much of what is in them."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write, or to replace")
    parser.add_argument(
        "--num-groups",
        required=True,
        type=int,
        metavar="N",
        help="contexts, half of them train and half test; one has 20 impressions (demo) or 58 (aliccp)",
    )
    parser.add_argument("--seed", required=True, type=int, metavar="S", help="same seed, same bytes")
    parser.add_argument(
        "--preset",
        default="demo",
        metavar="demo|aliccp",
        help="demo (default): rates that little data can learn; aliccp: Ali-CCP's published shape",
    )
    parser.add_argument(
        "--format",
        default="aliccp",
        choices=("aliccp", "events", "table"),
        help="aliccp (default); events: impressions, clicks and conversions of several days; table: the "
        "same in one flat table",
    )
    parser.add_argument("--num-days", default=4, type=int, metavar="D", help="events, table: days (4)")
    parser.add_argument(
        "--first-day",
        default="2026-11-20",
        metavar="DAY",
        help="events, table: the first (2026-11-20)",
    )
    parser.add_argument(
        "--repurchases", action="store_true", help="events: a log of repurchases after conversions, too"
    )
    arguments = parser.parse_args(argv)
    arguments.output = parse_output("--output", arguments.output)
    if arguments.format != "aliccp":
        _simulate_days(arguments)
        return
    from esmm_spark.simulation.simulate import check_arguments, simulate

    wanted = (arguments.output, arguments.num_groups, arguments.seed, arguments.preset)
    # Before Spark starts: a mistake is told at once.
    check_arguments(*wanted)
    this_run().writes(arguments.output)
    from esmm_spark.spark.session import job_session

    with job_session("esmm_spark simulate") as spark:
        summary = simulate(spark, *wanted)
    this_run().counted(rows_out=summary.impressions)
    print(f"{summary}: {arguments.output}", flush=True)


def _simulate_days(arguments: argparse.Namespace) -> None:
    from esmm_spark.simulation.simulate_events import Days, check_event_arguments, simulate_events
    from esmm_spark.simulation.simulate_table import TABLE_FILES, simulate_table

    try:
        first_day = date.fromisoformat(arguments.first_day)
    except ValueError as error:
        raise ConfigError(f"--first-day {arguments.first_day} is no day: write it like 2026-11-20") from error
    wanted = (arguments.output, arguments.num_groups, arguments.seed, arguments.preset)
    is_table = arguments.format == "table"
    check_event_arguments(*wanted, arguments.num_days, *([TABLE_FILES] if is_table else []))
    this_run().writes(arguments.output)
    from esmm_spark.spark.session import job_session

    days = Days(first_day, arguments.num_days)
    with job_session("esmm_spark simulate") as spark:
        summary = (
            simulate_table(spark, *wanted, days)
            if is_table
            else simulate_events(spark, *wanted, days, arguments.repurchases)
        )
    this_run().counted(rows_out=summary.impressions)
    print(f"{summary}: {arguments.output}", flush=True)


if __name__ == "__main__":
    run_command(main)
