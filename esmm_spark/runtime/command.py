"""The command line of all commands: arguments, config, log, user errors as one line, exit codes.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import esmm_spark
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import ConfigError, EsmmSparkError
from esmm_spark.contracts.section import output_path
from esmm_spark.runtime.log import set_up_logging

# As a shell says of a command that SIGINT ended.
INTERRUPTED_EXIT_CODE = 130


class OneLineParser(argparse.ArgumentParser):
    """Tells of a mistake in one line, where argparse would print the usage too; knows `--version`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.add_argument("--version", action="version", version=f"esmm_spark {esmm_spark.__version__}")

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError(f"{message} (see --help)")


def config_parser(description: str, usage_example: str) -> argparse.ArgumentParser:
    """Returns a parser of `--config FILE [key=value ...]`, to which a command may add its own flags."""
    parser = OneLineParser(
        description=description,
        epilog=f"example: {usage_example}. docs/config.md lists every key.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML config, e.g. conf/aliccp.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides a config key, e.g. train.batch_size=8192"
    )
    return parser


def parse_config(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, Config]:
    """Returns the parsed arguments and the config that they name. Raises ConfigError."""
    arguments = parser.parse_intermixed_args(argv)
    return arguments, load_config(arguments.config, arguments.overrides)


def parse_output(flag: str, value: str) -> str:
    """Returns the path that a flag names, in the form that a config's paths have. Raises ConfigError."""
    try:
        return output_path(value)
    except ValueError as error:
        raise ConfigError(f"{flag} = {value!r}: {error}") from error


def run_command(command: Callable[[Sequence[str]], None], is_first: bool = True) -> None:
    """Runs a command on `sys.argv` and ends the process if it fails.

    An error that esmm_spark raises on purpose becomes one line on stderr and its exit code: 2 for a user's
    mistake, 1 for the rest; Ctrl-C becomes one line and 130. Any other exception is a defect and keeps its
    stack trace.

    Args:
        command: takes the arguments.
        is_first: whether the process is the first rank of its run, or no rank: see `set_up_logging`.
    """
    try:
        set_up_logging(is_first)
        command(sys.argv[1:])
    except EsmmSparkError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except BaseException as error:
        if not _is_interrupted(error):
            raise
        print("stopped by Ctrl-C: what was there before is whole", file=sys.stderr, flush=True)
        # Not sys.exit: threads that are at work would be waited for, and libraries would tell of their ends.
        os._exit(INTERRUPTED_EXIT_CODE)


def _is_interrupted(error: BaseException | None) -> bool:
    """Returns whether Ctrl-C caused the error: Spark, too, is stopped by it, and cleaning up may fail."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
