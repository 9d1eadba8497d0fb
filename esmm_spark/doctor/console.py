"""The console command `esmm-spark`.

esmm-spark doctor [--config conf/X.yaml [key=value ...]] [--hosts host1,host2]
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence

from esmm_spark.commands.command import OneLineParser, run_command
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import ConfigError, UserError
from esmm_spark.doctor.finding import Finding, Outcome, guarded


def run_console() -> None:
    """Runs `esmm-spark` on the process's command line."""
    run_command(console)


def console(argv: Sequence[str]) -> None:
    """Runs a command of `esmm-spark`. Raises UserError if a check fails, ConfigError for a mistake."""
    parser = OneLineParser(prog="esmm-spark", description="What operators ask of esmm_spark.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    doctor = commands.add_parser(
        "doctor",
        help="check this machine, other hosts, and a config's paths",
        description="Checks Python, packages, Java, kernels, Horovod and memory of this machine; with "
        "--hosts ssh, clock and Python of others; with --config whether its inputs can be read, its outputs "
        "be written, and its dataset's files hold what the manifest says. Prints a line for each; ends with "
        "exit code 2 if one fails.",
    )
    doctor.add_argument("--config", metavar="FILE", help="YAML config, e.g. conf/aliccp.yaml")
    doctor.add_argument("--hosts", metavar="HOSTS", help="host1,host2 or host1:4,host2:4, as horovodrun -H")
    doctor.add_argument("overrides", nargs="*", metavar="key=value", help="overrides a config key")
    arguments = parser.parse_args(argv)
    if arguments.overrides and arguments.config is None:
        raise ConfigError(f"{arguments.overrides[0]} overrides a key of no config: name one, --config FILE")
    _examine(arguments)


def _examine(arguments: argparse.Namespace) -> None:
    """Prints what is found as it is found."""
    from esmm_spark.doctor.hosts import hosts_of

    config = load_config(arguments.config, arguments.overrides) if arguments.config is not None else None
    hosts = hosts_of(arguments.hosts) if arguments.hosts is not None else []
    failed = number = 0
    for finding in _findings(config, hosts):
        print(finding, flush=True)
        number += 1
        failed += finding.outcome is Outcome.FAILED
    if failed:
        raise UserError(f"{failed} of {number} checks failed")
    print(f"{number} checks, none failed", flush=True)


def _findings(config: Config | None, hosts: Sequence[str]) -> Iterator[Finding]:
    # numba and pyarrow take a while: --help does without.
    from esmm_spark.doctor import installation, paths
    from esmm_spark.doctor.hosts import check_hosts

    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("Python", installation.check_python),
        ("packages", installation.check_packages),
        ("Java", installation.check_java),
        ("kernels", installation.check_kernels),
        ("Horovod", lambda: installation.check_horovod(config)),
        ("memory", lambda: installation.check_memory(config, max(1, len(hosts)))),
        ("hosts", lambda: check_hosts(hosts)),
    ]
    if config is not None:
        dataset = config.paths.dataset
        checks += [
            ("paths", lambda: paths.check_paths(config)),
            ("dataset", lambda: paths.check_counts_of_dataset(dataset)),
        ]
    for what, check in checks:
        yield from guarded(what, check)
