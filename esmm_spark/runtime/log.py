"""The package's log: what a person should know of a run beside the command's result.

Modules write to `logging.getLogger(__name__)`. Commands and Spark's Python workers call `set_up_logging`
once; from then on each record is a line on stderr:

    warning: CTCVR: ESMM's pctcvr add up to 1.490 times the labels
    towers: fused, MKL, float32                                          INFO has no word before it
    debug: esmm_spark.training.loop: ...                                 DEBUG names the module

Credentials in URIs are left out. ESMM_SPARK_LOG names the least level that is shown, INFO by default. Results
go to stdout, and progress (runtime/progress.py) is no log.
"""

import logging
import os
import sys

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.locations import redacted

LEVEL_VARIABLE = "ESMM_SPARK_LOG"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def set_up_logging(is_first: bool = True) -> None:
    """Sends the package's log to stderr; a second call changes the level alone.

    Args:
        is_first: whether this is the first rank of its run, or no rank at all. Of the others INFO isn't shown
            unless ESMM_SPARK_LOG asks for it: they would only repeat the first one's.

    Raises:
        ConfigError: ESMM_SPARK_LOG names no level.
    """
    name = os.environ.get(LEVEL_VARIABLE, "").upper() or ("INFO" if is_first else "WARNING")
    if name not in _LEVELS:
        raise ConfigError(
            f"{LEVEL_VARIABLE} = {os.environ[LEVEL_VARIABLE]!r}: must be one of {', '.join(_LEVELS)}"
        )
    logger = logging.getLogger("esmm_spark")
    logger.setLevel(name)
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())


class _StderrHandler(logging.Handler):
    """Writes to what stderr is at that moment: a progress bar puts itself in its place, and stays below."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, and the stack trace of a record that has one."""
        try:
            print(_line(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def _line(record: logging.LogRecord) -> str:
    text = redacted(record.getMessage())
    if record.levelno != logging.INFO:
        who = f"{record.name}: " if record.levelno < logging.INFO else ""
        text = f"{record.levelname.lower()}: {who}{text}"
    return f"{text}\n{logging.Formatter().formatException(record.exc_info)}" if record.exc_info else text
