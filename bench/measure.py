"""Commands run as processes of their own and measured with their whole tree (`meter.py`)."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_LINES_SHOWN = 25


class FailedCommandError(Exception):
    """A measured command ended with another exit code than 0."""


@dataclass(frozen=True)
class Usage:
    """What a command and all its descendants cost.

    Attributes:
        wall_s: seconds until the command itself ended.
        cpu_s: user and system seconds of all processes.
        peak_mib: the most memory of the tree at one time, shared pages counted once.
        largest_process_mib: the most memory of one process.
        private_mib: process name -> the most private memory of one process of that name.
        log: where its output went.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float
    largest_process_mib: float
    private_mib: dict[str, float]
    log: Path

    def as_details(self) -> dict[str, float]:
        """Returns the numbers for the results' JSON."""
        return {"wall_s": self.wall_s, "cpu_s": self.cpu_s, "peak_mib": self.peak_mib}


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the environment of our commands: this venv first on the path, Spark told of conf/spark."""
    bin_folder = str(Path(sys.executable).parent)
    environ = {**os.environ, "PATH": f"{bin_folder}:{os.environ.get('PATH', '')}"}
    environ["SPARK_CONF_DIR"] = str(ROOT / "conf" / "spark")
    environ["PYSPARK_PYTHON"] = sys.executable
    environ["PYTHONPATH"] = str(ROOT)
    return {**environ, **(extra or {})}


def measured(
    command: Sequence[str], log: Path, *, extra_env: Mapping[str, str] | None = None, timeout_s: float = 3600
) -> Usage:
    """Runs `command` in the project's folder and returns what it cost.

    Raises:
        FailedCommandError: it failed; the message holds the end of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, log.open("w") as output:
        result = Path(folder) / "usage.json"
        metered = [sys.executable, "-m", "bench.meter", str(result), "--", *command]
        done = subprocess.run(
            metered, cwd=ROOT, env=environment(extra_env), stdout=output, stderr=output, timeout=timeout_s
        )
        if done.returncode != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:])
            raise FailedCommandError(f"exit code {done.returncode} of {' '.join(command)}\n{tail}\n({log})")
        content = json.loads(result.read_text())
    return Usage(
        wall_s=content["wall_s"],
        cpu_s=content["cpu_s"],
        peak_mib=content["peak_mib"],
        largest_process_mib=content["largest_process_mib"],
        private_mib=content["peak_private_mib"],
        log=log,
    )


def measured_worker(
    module: str,
    arguments: Sequence[str],
    log: Path,
    *,
    launcher: Sequence[str] = (),
    python: str = sys.executable,
    **options: Any,
) -> tuple[dict[str, Any], Usage]:
    """Runs `python -m module OUT arguments` and returns the JSON that it wrote to OUT, and what it cost.

    Args:
        module: a module of `bench.workers` or `bench.peers`.
        arguments: the rest of its command line.
        log: where its output goes.
        launcher: what stands before python, e.g. `horovodrun -np 2`.
        python: the interpreter, which may be that of the peers' venv.
        options: as for `measured`.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        usage = measured([*launcher, python, "-m", module, str(out), *arguments], log, **options)
        return json.loads(out.read_text()), usage
