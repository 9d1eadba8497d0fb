#!/usr/bin/env python
"""Trains the model on Spark's executors, a rank in each task of one barrier stage.

spark-submit jobs/train.py --config conf/X.yaml train.backend=torch [key=value ...] [--ranks N]
"""

from collections.abc import Sequence

from esmm_spark.commands.command import config_parser, parse_config, run_command
from esmm_spark.commands.recording import note_record_of_ranks
from esmm_spark.contracts.disjoint_paths import paths_of
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.runtime.run_notes import this_run


def main(argv: Sequence[str]) -> None:
    """Trains; the first rank prints where the model lies and its validation metrics."""
    parser = config_parser(
        "Trains on Spark's executors what esmm_spark/train.py trains: a rank in each task of one stage. They "
        "exchange by torch.distributed.",
        "spark-submit jobs/train.py --config conf/aliccp.yaml train.backend=torch --ranks 4",
    )
    parser.add_argument("--ranks", type=int, metavar="N", help="by default Spark's cores / spark.task.cpus")
    arguments, config = parse_config(parser, argv)
    if config.train.backend != "torch":
        raise ConfigError(
            f"train.backend = {config.train.backend}, but on Spark's executors ranks exchange by "
            "torch.distributed: set train.backend=torch, or train with horovodrun"
        )
    if arguments.ranks is not None and arguments.ranks < 1:
        raise ConfigError(f"--ranks {arguments.ranks}: it must be at least 1")
    # Only now: --help and a mistake in the config shouldn't wait for Spark.
    from esmm_spark.spark.ranks import train_on_executors
    from esmm_spark.spark.session import job_session
    from esmm_spark.train import train_as_rank

    # The first rank writes the record, with all that it has counted.
    this_run().writes(config.paths.model, is_recorded=False)
    paths = [path for path in paths_of(config) if path.key in ("paths.dataset", "paths.model")]
    with job_session("esmm_spark train", paths) as spark:
        train_on_executors(spark, train_as_rank, config, arguments.ranks, argv)
    note_record_of_ranks(config.paths.model)


if __name__ == "__main__":
    run_command(main)
