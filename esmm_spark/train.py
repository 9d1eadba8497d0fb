#!/usr/bin/env python
"""Trains ESMM on the examples that jobs/preprocess.py wrote.

horovodrun -np N python esmm_spark/train.py --config conf/X.yaml [key=value ...]     N ranks
torchrun --standalone --nproc-per-node N esmm_spark/train.py --config conf/X.yaml train.backend=torch
python esmm_spark/train.py --config conf/X.yaml [key=value ...]                      one rank
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

# Run as a script, this folder comes first on sys.path, where its modules would shadow others of the same
# name.
if __name__ == "__main__" and sys.path and os.path.basename(sys.path[0].rstrip("/")) == "esmm_spark":
    sys.path[0] = os.path.dirname(os.path.abspath(sys.path[0]))

from esmm_spark.commands.command import config_parser, parse_config, run_command
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import RankFailedError
from esmm_spark.runtime.run_notes import this_run
from esmm_spark.training.ranks.launch import (
    end_after_failure_elsewhere,
    first_rank_speaks,
    launched_rank,
    refuse_foreign_launcher,
    require_host_address,
)


def main(argv: Sequence[str]) -> None:
    """Trains, and prints where the model lies and its validation metrics."""
    parser = config_parser(
        "Trains ESMM on what jobs/preprocess.py wrote, on as many ranks as horovodrun starts, or torchrun "
        "with train.backend=torch; else on one.",
        "horovodrun -np 2 python esmm_spark/train.py --config conf/aliccp.yaml",
    )
    with first_rank_speaks():
        _, config = parse_config(parser, argv)
        this_run().writes(config.paths.model)
    _train(config)


def _train(config: Config) -> None:
    with first_rank_speaks():
        refuse_foreign_launcher(config.train.backend)
        require_host_address(config.train.backend)
    from esmm_spark.training.run import train

    try:
        summary = train(config)
    except RankFailedError as error:
        end_after_failure_elsewhere(error)
    if summary is not None:
        print(summary, flush=True)


def train_as_rank(content: dict[str, Any], arguments: Sequence[str]) -> None:
    """Is one rank of `jobs/train.py`, in a process of its own.

    Args:
        content: of the config.
        arguments: of the command line, for the record of the run.
    """
    sys.argv = ["train.py", *arguments]
    # Spark's tasks have one thread each; this rank has those of train.threads. Nothing heavy is imported yet.
    for name in [name for name in os.environ if name.endswith("_NUM_THREADS")]:
        del os.environ[name]

    def command(_: Sequence[str]) -> None:
        config = Config.model_validate(content)
        this_run().config_digest = config.digest
        this_run().writes(config.paths.model)
        _train(config)

    run_command(command, is_first=launched_rank() == 0)


if __name__ == "__main__":
    run_command(main, is_first=launched_rank() == 0)
