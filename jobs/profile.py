#!/usr/bin/env python
"""Profiles a log of any size: what each column holds, what leaks the label, and a config that trains on it.

spark-submit jobs/profile.py --table data/log [--output run/profile]
spark-submit jobs/profile.py --config my.yaml [--output run/profile] [key=value ...]
"""

import argparse
import logging
import os
import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader

from esmm_spark.commands.command import OneLineParser, parse_config, parse_output, run_command
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.runtime.run_notes import this_run

_log = logging.getLogger("esmm_spark.jobs.profile")

_OUTPUT = "run/profile"
# Of one column each, the buffers of sketches: by default more than 128 columns would be sorted instead.
_SESSION = {"spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "10000"}


def main(argv: Sequence[str]) -> None:
    """Writes the profile and prints what was guessed."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--table", metavar="PATH", help="file or folder: Parquet, CSV or TSV with a header, JSON lines"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="instead: a config whose logs.table says how to read it"
    )
    parser.add_argument(
        "--output",
        default=_OUTPUT,
        metavar="DIR",
        help=f"folder to write, or to replace (default {_OUTPUT}); what the config writes goes beside it",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides a key of the config")
    arguments = parser.parse_intermixed_args(argv)
    if (arguments.table is None) == (arguments.config is None):
        raise ConfigError("name either --table PATH or --config FILE: what is to be profiled")
    output = parse_output("--output", arguments.output)
    from esmm_spark.profile.counts.opening import guess_table
    from esmm_spark.profile.counts.roles import roles_of_config

    if arguments.config is not None:
        _, config = parse_config(parser, argv)
        if config.logs.table is None:
            raise ConfigError(f"{arguments.config} has no logs.table: only tables can be profiled")
        table, known = config.logs.table, roles_of_config(config.logs.table, config.tasks)
    else:
        if arguments.overrides:
            raise ConfigError(f"{arguments.overrides[0]}: key=value is for --config")
        table, known = guess_table(parse_output("--table", arguments.table)), None
    this_run().writes(output)
    from esmm_spark.contracts.disjoint_paths import ConfigPath
    from esmm_spark.profile.profiling import profile_table
    from esmm_spark.profile.terminal import print_summary
    from esmm_spark.spark.session import job_session

    paths = [ConfigPath("--table", table.path), ConfigPath("--output", output, is_output=True)]
    with job_session("esmm_spark profile", paths, _SESSION) as spark:
        found = profile_table(spark, table, known, output)
    this_run().counted(rows_in=found.facts.lines)
    print_summary(found, output)
    for needed in found.config.needed:
        _log.warning("the config needs %s", needed)


if __name__ == "profile":
    # The jobs' folder stands before the standard library, whose module of this name pyspark asks for.
    SourceFileLoader("profile", os.path.join(sysconfig.get_path("stdlib"), "profile.py")).exec_module(
        sys.modules["profile"]
    )
elif __name__ == "__main__":
    run_command(main)
