"""What ops/daily.sh and scripts/train_until_done.sh say of mistakes: one line, exit code 2."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.repository import ROOT


def daily(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("ESMM_SPARK_")}
    return subprocess.run(
        [str(ROOT / "ops" / "daily.sh"), *arguments],
        env={**own, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        ([], {}, "error: no DAY: ops/daily.sh DAY [logs preprocess train score evaluate release]"),
        (["2026-11-31"], {}, "error: DAY 2026-11-31: must be a date like 2026-11-23"),
        (
            ["2026-11-23", "release", "evalute"],
            {},
            "error: step evalute: must be one of logs preprocess train score evaluate release",
        ),
        (
            ["2026-11-23", "train"],
            {},
            "error: ESMM_SPARK_START '': must be the first day that is built, a date like 2026-11-20",
        ),
        (
            ["2026-11-23", "logs"],
            {"ESMM_SPARK_WAIT_S": "1h"},
            "error: ESMM_SPARK_WAIT_S 1h: must be a whole number of seconds",
        ),
        (
            ["2026-11-23", "logs"],
            {"ESMM_SPARK_LOGS": "s3a://bucket/clicks"},
            "error: ESMM_SPARK_LOGS s3a://bucket/clicks: must be folders of this host; leave it out, and "
            "wait for logs in a store with what your scheduler has for it",
        ),
        (
            ["2026-11-23", "logs"],
            {"ESMM_SPARK_LOGS": "/nowhere", "ESMM_SPARK_WAIT_S": "0"},
            "error: /nowhere/ds=2026-11-23 has no _SUCCESS after 0 s: start again when it has",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2_and_nothing_is_run(
    arguments: list[str], environment: dict[str, str], line: str
) -> None:
    done = daily(*arguments, **environment)
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (2, "", [line])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "no command: write it behind --, e.g. -- python esmm_spark/train.py --config conf/X.yaml"),
        (["-n", "0", "--", "false"], "-n 0: must be at least 1 attempt"),
        (["-w", "soon", "--", "false"], "-w soon: must be a whole number of seconds"),
        (
            ["-i", "eth0", "--", "false"],
            "-i eth0: must stand beside -H",
        ),
        (["-x"], "-x: must be -H HOSTS, -n ATTEMPTS, -w SECONDS or -i INTERFACE, each with a value"),
        (["--", "no-such-launcher"], "there is no no-such-launcher in PATH: activate .venv"),
    ],
)
def test_train_until_done_names_the_option_that_is_wrong(arguments: list[str], line: str) -> None:
    script = str(ROOT / "scripts" / "train_until_done.sh")
    done = subprocess.run([script, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, f"error: {line}\n")


def test_a_days_logs_are_there_once_each_folder_has_its_marker(tmp_path: Path) -> None:
    for name in ("impressions", "clicks"):
        folder = tmp_path / name / "ds=2026-11-23"
        folder.mkdir(parents=True)
        (folder / "_SUCCESS").touch()
    folders = f"{tmp_path}/impressions:{tmp_path}/clicks"
    steps = ("2026-11-23", "logs", "release")
    told = {"ESMM_SPARK_LOGS": folders, "ESMM_SPARK_WAIT_S": "0", "ESMM_SPARK_RELEASE": "echo out: $DAY"}
    done = daily(*steps, **told)
    assert (done.returncode, done.stdout) == (0, "out: 2026-11-23\n"), done.stderr


def test_the_first_two_days_are_too_early_to_train() -> None:
    done = daily("2026-11-21", "train", ESMM_SPARK_START="2026-11-20")
    assert done.returncode == 99
    assert done.stderr.startswith("2026-11-21: too early to train")


@pytest.mark.horovod
@pytest.mark.slow
def test_a_users_mistake_while_training_is_exit_code_2() -> None:
    done = daily(
        "2026-11-23",
        "train",
        ESMM_SPARK_START="2026-11-20",
        ESMM_SPARK_CONFIG="no.yaml",
        ESMM_SPARK_RANKS="-np 1",
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == "train_until_done: no other attempt would mend that"


def test_with_a_master_the_settings_of_local_mode_are_left_out(tmp_path: Path) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "spark-submit").write_text('#!/bin/sh\necho "${SPARK_CONF_DIR-none} $*"\n')
    (bin_folder / "spark-submit").chmod(0o755)
    # `activate` puts .venv/bin first, so the checkout is one of links with another .venv.
    checkout = tmp_path / "checkout"
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "activate").write_text(f'PATH="{bin_folder}:$PATH"\n')
    for name in ("ops", "conf"):
        (checkout / name).symlink_to(ROOT / name)
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_CONF_DIR"}
    for submit, expected in (("--master yarn", "none --master yarn"), ("", f"{checkout}/conf/spark jobs")):
        done = subprocess.run(
            [str(checkout / "ops" / "daily.sh"), "2026-11-23", "score"],
            env={**environment, "ESMM_SPARK_SUBMIT": submit},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.startswith(expected), done.stdout + done.stderr
