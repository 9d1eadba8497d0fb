"""The command line of all commands: arguments, config, log, record of the run, errors, exit codes.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import esmm_spark
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import ConfigError, EsmmSparkError
from esmm_spark.contracts.section import output_path
from esmm_spark.runtime import run_notes
from esmm_spark.runtime.log import set_up_logging

# As a shell says of a command that SIGINT ended.
INTERRUPTED_EXIT_CODE = 130
_INTERRUPTED = "stopped by Ctrl-C: what was there before is whole"


class _NoteMetricsFile(argparse.Action):
    """Notes the file at once: a run that fails while its arguments are read is written there, too."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        folder = os.path.dirname(values) or "."
        if "://" in values or os.path.isdir(values) or not os.path.isdir(folder):
            raise ConfigError(f"--metrics-file {values}: name a file of this host, in a folder that is there")
        run_notes.this_run().metrics_file = values


class OneLineParser(argparse.ArgumentParser):
    """argparse's parser with one-line errors, without the usage, and the options that all commands share."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.add_argument("--version", action="version", version=f"esmm_spark {esmm_spark.__version__}")
        self.add_argument(
            "--metrics-file",
            action=_NoteMetricsFile,
            metavar="FILE",
            help="write what the run was, took and came to as Prometheus's text, e.g. for its node exporter",
        )

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
    config = load_config(arguments.config, arguments.overrides)
    run_notes.this_run().config_digest = config.digest
    return arguments, config


def parse_output(flag: str, value: str) -> str:
    """Returns the path that a flag names, in the form that a config's paths have. Raises ConfigError."""
    try:
        return output_path(value)
    except ValueError as error:
        raise ConfigError(f"{flag} = {value!r}: {error}") from error


def run_command(command: Callable[[Sequence[str]], None], is_first: bool = True) -> None:
    """Runs a command on `sys.argv`, writes the record of its run, and ends the process if it fails.

    An error that esmm_spark raises on purpose becomes one line on stderr and its exit code: 2 for a user's
    mistake, 3 for a model that isn't good enough, 1 for the rest; Ctrl-C becomes one line and 130. Any other
    exception is a defect and keeps its stack trace.

    Args:
        command: takes the arguments.
        is_first: whether the process is the first rank of its run, or no rank: see `set_up_logging`. The
            others write no record.
    """
    arguments = sys.argv[1:]
    notes = run_notes.begin_run(partial(_write_records, arguments) if is_first else None)
    try:
        set_up_logging(is_first)
        _call(command, arguments)
        notes.ended(0)
    except EsmmSparkError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        notes.ended(error.exit_code, error)
        sys.exit(error.exit_code)
    except BaseException as error:
        if not _is_interrupted(error):
            code = error.code if isinstance(error, SystemExit) else 1
            # --help and --version end with 0, and are no runs.
            if code:
                notes.ended(code if isinstance(code, int) else 1, error)
            raise
        print(_INTERRUPTED, file=sys.stderr, flush=True)
        notes.ended(INTERRUPTED_EXIT_CODE, _INTERRUPTED)
        # Not sys.exit: threads that are at work would be waited for, and libraries would tell of their ends.
        os._exit(INTERRUPTED_EXIT_CODE)


def _call(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Calls the command; a failing disk becomes UnwritableError, wherever it is met."""
    try:
        command(arguments)
    except OSError as error:
        from esmm_spark.files.write_errors import failing_storage

        failing = failing_storage(error.errno, str(error))
        if failing is None:
            raise
        raise failing from error


def _write_records(
    arguments: Sequence[str], notes: run_notes.RunNotes, exit_code: int, error: run_notes.Error
) -> None:
    # Of no use to --help.
    from esmm_spark.commands.recording import write_records

    write_records(notes, arguments, exit_code, error)


def _is_interrupted(error: BaseException | None) -> bool:
    """Returns whether Ctrl-C caused the error: Spark, too, is stopped by it, and cleaning up may fail."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
