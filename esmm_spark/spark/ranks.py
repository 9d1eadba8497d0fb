"""The ranks of one training job as the tasks of one barrier stage, started by Spark's TorchDistributor."""

import io
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from typing import Any, TextIO

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from esmm_spark.contracts import errors
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, EsmmSparkError, RankFailedError

# What torchrun says of the rank that failed first, and what that rank said.
_EXIT_CODE = re.compile(r"^ *exitcode *: (-?\d+)", re.MULTILINE)
_TOLD = re.compile(r"^error: (.*)$", re.MULTILINE)
_MOST_KEPT = 1 << 20  # characters of what the ranks print


def train_on_executors(
    spark: SparkSession,
    train_as_rank: Callable[[dict[str, Any], Sequence[str]], None],
    config: Config,
    num_ranks: int | None,
    arguments: Sequence[str],
) -> None:
    """Runs `train_as_rank` on the config's content and `arguments` in a process of each of `num_ranks` tasks.

    What the ranks print comes to this process's stderr. A rank computes with the threads that its task has,
    unless `train.threads` says otherwise.

    Args:
        spark: the session.
        train_as_rank: a function of a module that is installed on the executors.
        config: of the run.
        num_ranks: None for as many as Spark has slots.
        arguments: of the command line, for the record that the first rank writes.

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
    # The ranks tell all that is wrong, and a thread of pyspark's writes it to stderr; the failure itself says
    # no more than that there was one.
    spark.sparkContext.setLogLevel("OFF")
    printed = _Printed(sys.stderr)
    try:
        with redirect_stderr(printed):
            distributor.run(train_as_rank, content, list(arguments))
    except (Py4JJavaError, PySparkException, RuntimeError) as failure:
        raise _told(printed.last) from failure


class _Printed(io.TextIOBase):
    """A stream that passes on what is written to it, and keeps the end of it.

    Args:
        stream: where it goes.

    Attributes:
        last: the end of the text.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.last = stream, ""

    def write(self, text: str) -> int:
        """Passes it on."""
        self.last = (self.last + text)[-_MOST_KEPT:]
        return self._stream.write(text)

    def flush(self) -> None:
        """Flushes the stream behind it."""
        self._stream.flush()


def _told(output: str) -> EsmmSparkError:
    """Returns the error that stands in the output of the task that failed."""
    told = _TOLD.findall(output)
    codes = _EXIT_CODE.findall(output)
    if not told:
        last = output.strip().splitlines()[-1:] or ["it said nothing"]
        return RankFailedError(f"a rank failed: {last[0].strip()}; what the ranks printed stands above")
    kind = errors.UserError if "2" in codes[-1:] else RankFailedError
    return kind(told[-1])
