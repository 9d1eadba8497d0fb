"""The five commands: a mistake on the command line is one line, before anything heavy is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    "jobs/simulate.py",
    "jobs/preprocess.py",
    "esmm_spark/train.py",
    "jobs/score.py",
    "jobs/evaluate.py",
)


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_argument_is_one_line_and_exit_code_2(command: str) -> None:
    done = run(command)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the following arguments are required: --")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_the_command(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "usage:" in done.stdout


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_an_unknown_key_is_one_line_and_exit_code_2(command: str) -> None:
    done = run(command, "--config", "conf/demo.yaml", "train.batch_sise=1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "unknown key train.batch_sise: allowed here are batch_size" in line
