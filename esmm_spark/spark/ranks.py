"""The ranks of one training job as the tasks of one barrier stage, started by Spark's TorchDistributor."""

import re
from collections.abc import Callable
from typing import Any

from pyspark.errors import PySparkException
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from esmm_spark.contracts import errors
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, EsmmSparkError, RankFailedError

# What torchrun says of the rank that failed first, and what that rank said.
_EXIT_CODE = re.compile(r"^ *exitcode *: (-?\d+)", re.MULTILINE)
_TOLD = re.compile(r"^error: (.*)$", re.MULTILINE)


def train_on_executors(
    spark: SparkSession,
    train_as_rank: Callable[[dict[str, Any]], None],
    config: Config,
    num_ranks: int | None,
) -> None:
    """Runs `train_as_rank` on the config's content in a process of each of `num_ranks` tasks.

    What the ranks print comes to this process's stderr. A rank computes with the threads that its task has,
    unless `train.threads` says otherwise.

    Args:
        spark: the session.
        train_as_rank: a function of a module that is installed on the executors.
        config: of the run.
        num_ranks: None for as many as Spark has slots.

    Raises:
        ConfigError: a local Spark has fewer slots than ranks.
        EsmmSparkError: what the rank that failed first told.
    """
    cpus = int(spark.conf.get("spark.task.cpus", "1") or 1)
    slots = max(1, spark.sparkContext.defaultParallelism // cpus)
    ranks = num_ranks or slots
    if ranks > slots and str(spark.sparkContext.master).startswith("local"):
        raise ConfigError(f"--ranks {ranks} > {slots} tasks at a time: give Spark --master local[{ranks}]")
    content = config.model_dump(mode="json")
    content["train"]["threads"] = config.train.threads or cpus
    has_gpus = config.train.device != "cpu" and bool(spark.conf.get("spark.task.resource.gpu.amount", None))
    distributor = TorchDistributor(ranks, local_mode=False, use_gpu=has_gpus)
    # All that can be wrong is in the failure that is raised.
    spark.sparkContext.setLogLevel("OFF")
    try:
        distributor.run(train_as_rank, content)
    except (PySparkException, RuntimeError) as failure:
        raise _told(str(failure)) from failure


def _told(output: str) -> EsmmSparkError:
    """Returns the error that stands in the output of the task that failed."""
    told = _TOLD.findall(output)
    codes = _EXIT_CODE.findall(output)
    if not told:
        last = output.strip().splitlines()[-1:] or ["it said nothing"]
        return RankFailedError(f"a rank failed: {last[0]}; what the ranks printed stands above")
    kind = errors.UserError if "2" in codes[-1:] else RankFailedError
    return kind(told[-1])
