#!/usr/bin/env python
"""Evaluates a scored partition: metrics.json, report.html, and a table on the terminal.

spark-submit jobs/evaluate.py --config conf/X.yaml [key=value ...]
"""

import logging
import sys
from collections.abc import Sequence

from esmm_spark.commands.command import config_parser, parse_config, run_command
from esmm_spark.contracts.errors import RequirementsNotMetError
from esmm_spark.runtime.run_notes import this_run

_log = logging.getLogger("esmm_spark.jobs.evaluate")


def main(argv: Sequence[str]) -> None:
    """Evaluates what the arguments name."""
    parser = config_parser(
        "Evaluates a scored partition: exact AUCs, log loss, calibration and GAUC with bootstrap intervals, "
        "beside a baseline's and the simulator's truth where given. Writes metrics.json and report.html.",
        "spark-submit jobs/evaluate.py --config conf/demo.yaml evaluate.partition=split=test",
    )
    _, config = parse_config(parser, argv)
    this_run().writes(config.paths.report)
    # Only now: --help and a mistake in the config shouldn't wait for Spark.
    from rich.console import Console

    from esmm_spark.evaluation.evaluating import evaluate
    from esmm_spark.evaluation.report.cautions import warnings_of
    from esmm_spark.evaluation.report.requirements import requirements_of
    from esmm_spark.evaluation.report.terminal import terminal_summary
    from esmm_spark.spark.session import job_session

    # No paths: the tasks read and write through pyarrow alone, whose file systems Spark need not have.
    options = {"spark.python.daemon.module": "esmm_spark.evaluation.daemon"}
    with job_session("esmm_spark evaluate", options=options) as spark:
        done = evaluate(spark, config)
    this_run().counted(rows_in=done.measured.num_impressions)
    # Wide enough for every value to stand beside its interval where nobody's window is narrower.
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(terminal_summary(done.subject, done.measured))
    for warning in warnings_of(done.subject, done.measured):
        _log.warning(warning)
    console.print(f"report: {done.report}", soft_wrap=True, highlight=False)
    requirements = requirements_of(done.subject, done.measured)
    unmet = [found.told(metric) for metric, found in requirements.items() if not found.is_met]
    for reason in unmet:
        _log.error(reason)
    if unmet:
        raise RequirementsNotMetError(
            f"{len(unmet)} of {len(requirements)} requirements are not met: {'; '.join(unmet)}"
        )


if __name__ == "__main__":
    run_command(main)
