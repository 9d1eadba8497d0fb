#!/usr/bin/env python
"""Simulates impression logs in Ali-CCP's raw format, with the true pCTR and pCVR of every impression.

spark-submit jobs/simulate.py --output DIR --num-groups N --seed S [--preset demo|aliccp]
"""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from esmm_spark.command import run_command
from esmm_spark.errors import ConfigError


class _Parser(argparse.ArgumentParser):
    """Ends in one line, where argparse would print the usage too."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see --help)")


def main(argv: Sequence[str]) -> None:
    """Writes the files, and prints how much of what is in them."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    arguments = parser.parse_args(argv)
    from esmm_spark.simulation.simulate import check_arguments, simulate

    wanted = (arguments.output, arguments.num_groups, arguments.seed, arguments.preset)
    # Before Spark starts: a mistake is told at once.
    check_arguments(*wanted)
    from esmm_spark.session import spark_session

    summary = simulate(spark_session("esmm_spark simulate"), *wanted)
    print(f"{summary}: {arguments.output}", flush=True)


if __name__ == "__main__":
    run_command(main)
