#!/usr/bin/env python
"""Scores a partition with the newest model.

spark-submit jobs/score.py --config conf/X.yaml [key=value ...] [--force]
"""

from collections.abc import Sequence

from esmm_spark.commands.command import config_parser, parse_config, run_command
from esmm_spark.runtime.run_notes import this_run


def main(argv: Sequence[str]) -> None:
    """Scores what the arguments name, and prints what was scored."""
    parser = config_parser(
        "Scores the impressions of a partition of the examples, or of raw files, with the newest model: "
        "the probabilities of all tasks. The scores replace those of the partition once all of them are "
        "written; other partitions stay. What is scored already from the same inputs is left as it is.",
        "spark-submit jobs/score.py --config conf/demo.yaml score.partition=split=test",
    )
    parser.add_argument("--force", action="store_true", help="score again also what is scored already")
    arguments, config = parse_config(parser, argv)
    this_run().writes(config.paths.scores, config.score.partition)
    # Only now: --help and a mistake in the config shouldn't wait for Spark and torch.
    from esmm_spark.scoring.scoring import plan_scoring, score
    from esmm_spark.scoring.sources import read_by_spark
    from esmm_spark.spark.session import job_session

    plan = plan_scoring(config)
    scored = None if arguments.force else plan.done_before()
    if scored is None:
        options = {"spark.python.daemon.module": "esmm_spark.scoring.daemon"}
        with job_session("esmm_spark score", read_by_spark(config), options) as spark:
            scored = score(spark, plan)
    if scored.is_new:
        rejects = scored.record.rejects
        rows_in = scored.record.impressions + sum(rejects.values())
        this_run().counted(rows_in, scored.record.impressions, rejects)
    else:
        this_run().counted(0, 0)
    print(scored, flush=True)


if __name__ == "__main__":
    run_command(main)
