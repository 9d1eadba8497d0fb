"""Checks of the other hosts of a training: ssh without a password, the same Python, clocks that agree."""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.doctor.finding import Finding, right, wrong

_SECONDS_TO_CONNECT = 5
_SECONDS = 30
# Leases and resumed runs go by the times of files, logs by each host's own.
_MOST_SECONDS_APART = 1.0


def hosts_of(text: str) -> list[str]:
    """Returns the hosts of `host1,host2`, or of `host1:4,host2:4`, as horovodrun has them.

    Raises:
        ConfigError: one has no name, or is taken for an option of ssh.
    """
    hosts = [part.strip().partition(":")[0] for part in text.split(",")]
    for host in hosts:
        if not host or host.startswith("-"):
            raise ConfigError(f"--hosts {text}: {host!r} is no host: write host1,host2 or host1:4,host2:4")
    return list(dict.fromkeys(hosts))


def check_hosts(hosts: Sequence[str]) -> Iterator[Finding]:
    """Yields, host by host, whether it can be logged in to, has this Python, and what its clock says."""
    for host in hosts:
        yield from _check_host(host)


def _check_host(host: str) -> Iterator[Finding]:
    what = f"host {host}"
    python = shlex.quote(sys.executable)
    remote = f"date +%s.%N; test -x {python} && echo python"
    # As horovodrun does, which asks for no host to be known.
    settings = ["BatchMode=yes", f"ConnectTimeout={_SECONDS_TO_CONNECT}", "StrictHostKeyChecking=no"]
    command = ["ssh", *(word for setting in settings for word in ("-o", setting)), host, remote]
    before_s = time.time()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except FileNotFoundError:
        yield wrong(what, "there is no ssh in PATH: install openssh-client")
        return
    except subprocess.TimeoutExpired:
        yield wrong(what, f"ssh gives no answer within {_SECONDS} s")
        return
    after_s = time.time()
    lines = done.stdout.split()
    if not lines:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield wrong(what, f"ssh fails: {reason}: horovodrun logs in by ssh without a password")
        return
    yield right(what, "ssh logs in without a password")
    # The remote clock was read at some time between the two: more than that it can't be known to be wrong.
    at_s = float(lines[0])
    apart_s = max(before_s - at_s, at_s - after_s, 0.0)
    clock = f"clock of {host}"
    if apart_s > _MOST_SECONDS_APART:
        yield wrong(clock, f"at least {apart_s:.1f} s from this one's: let both follow NTP")
    else:
        yield right(clock, f"within {max(after_s - at_s, at_s - before_s):.1f} s of this one's")
    if lines[1:] == ["python"]:
        yield right(f"Python of {host}", f"{sys.executable} is there")
    else:
        yield wrong(f"Python of {host}", f"there is no {sys.executable}: the environment must be at one path")
