"""The five commands: a mistake on the command line is one line, before anything heavy is loaded."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import esmm_spark
from esmm_spark.commands.command import run_command
from tests.commands.forked import run_script
from tests.repository import ROOT

COMMANDS = (
    "jobs/simulate.py",
    "jobs/preprocess.py",
    "esmm_spark/train.py",
    "jobs/score.py",
    "jobs/evaluate.py",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_argument_is_one_line_and_exit_code_2(command: str) -> None:
    done = run_script(command)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the following arguments are required: --")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_its_version(command: str) -> None:
    # As users start it, so the script's first lines count, too.
    start = [sys.executable, command, "--version"]
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"esmm_spark {esmm_spark.__version__}\n")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        # Nothing is mapped at address 0: the kernel answers as it does for a broken disk.
        (
            "/proc/self/mem",
            "error: a disk or a file system fails: [Errno 5] Input/output error: mend it, and",
        ),
        ("/nowhere", None),
    ],
)
def test_a_disk_that_fails_is_one_line_and_exit_code_2_and_a_defect_keeps_its_trace(
    path: str, line: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit if line else FileNotFoundError) as ended:
        run_command(lambda _: print(Path(path).read_bytes()))
    if line is not None:
        assert ended.value.args == (2,)
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith(line)


INTERRUPTED = """
import threading, time, sys
from esmm_spark.files import storage
from esmm_spark.commands.command import run_command
from esmm_spark.files.replacing import replacing
def write(argv):
    with replacing(argv[0], "paths.report", ()) as new:
        storage.write_text(storage.join(new.folder, "half"), "of it")
        print("ready", flush=True)
        try:
            time.sleep(100)
        finally:
            # As Spark does when it is gone.
            raise ValueError("while cleaning up")
run_command(write)
"""


def test_ctrl_c_is_one_line_and_exit_code_130_and_leaves_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "report")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "stopped by Ctrl-C: what was there before is whole\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_the_command(command: str) -> None:
    done = run_script(command, "--help")
    assert done.returncode == 0
    assert "usage:" in done.stdout


@pytest.mark.parametrize(
    ("command", "override", "expected"),
    [
        (
            COMMANDS[1],
            "paths.scores=demo/dataset/examples",
            "paths.dataset = demo/dataset holds paths.scores",
        ),
        (COMMANDS[2], "paths.model=demo/dataset/", "is the same place as paths.model = demo/dataset"),
        (COMMANDS[3], "paths.dataset=s3a://KEY:SECRET@bucket/x", "s3a://***@bucket/x carries credentials"),
        (COMMANDS[4], "paths.report=ftp://host/x", "the scheme ftp is not supported"),
    ],
)
def test_a_path_that_cannot_be_used_is_one_line_and_exit_code_2(
    command: str, override: str, expected: str
) -> None:
    done = run_script(command, "--config", "conf/demo.yaml", override)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert expected in line
    assert "SECRET" not in line


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("s3a://KEY:SECRET@bucket/x", "s3a://***@bucket/x carries credentials"),
        ("out[1]", "--output = 'out[1]': it holds [], which Spark would take for a glob"),
    ],
)
def test_an_output_that_cannot_be_used_is_one_line_and_exit_code_2(output: str, expected: str) -> None:
    done = run_script(COMMANDS[0], "--output", output, "--num-groups", "2", "--seed", "1")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert expected in line
    assert "SECRET" not in line


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_an_unknown_key_is_one_line_and_exit_code_2(command: str) -> None:
    done = run_script(command, "--config", "conf/demo.yaml", "train.batch_sise=1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "unknown key train.batch_sise: allowed here are batch_size" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--allow-missing", "clicks,sales"),
            "--allow-missing sales: must be one of impressions, clicks, conv",
        ),
        (("--backfill-days", "0"), "--backfill-days 0: must be at least 1"),
    ],
)
def test_a_wrong_flag_of_a_day_is_one_line_and_exit_code_2(arguments: tuple[str, ...], said: str) -> None:
    done = run_script("jobs/preprocess.py", "--config", "conf/events.yaml", "--ds", "2026-11-23", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line
