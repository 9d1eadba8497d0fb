"""The log: one line a record on stderr, from the level that ESMM_SPARK_LOG names on."""

import logging
import os
import subprocess
import sys

import pytest

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.runtime.log import set_up_logging
from tests.repository import ROOT

SCRIPT = """
import logging, sys
from esmm_spark.commands.command import run_command
log = logging.getLogger("esmm_spark.some.module")
def command(argv):
    log.debug("5 rows")
    log.info("towers: %s", "fused")
    log.warning("labels are off")
    logging.getLogger("another").info("not ours")
    print("result")
run_command(command, is_first=sys.argv[1] == "first")
"""
DEBUG, INFO, WARNING = "debug: esmm_spark.some.module: 5 rows", "towers: fused", "warning: labels are off"


def test_the_log_leaves_credentials_out(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    logging.getLogger("esmm_spark.some.module").warning("%s fails", "s3a://KEY:SECRET@bucket/x")
    assert capsys.readouterr().err == "warning: s3a://***@bucket/x fails\n"


@pytest.mark.parametrize(
    ("level", "rank", "lines"),
    [
        (None, "first", [INFO, WARNING]),
        ("", "first", [INFO, WARNING]),
        (None, "other", [WARNING]),
        ("debug", "other", [DEBUG, INFO, WARNING]),
        ("ERROR", "first", []),
    ],
)
def test_what_is_told_depends_on_the_level_and_on_the_rank(
    level: str | None, rank: str, lines: list[str]
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ESMM_SPARK_LOG"}
    environment |= {} if level is None else {"ESMM_SPARK_LOG": level}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, rank],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "result\n")
    assert done.stderr.splitlines() == lines


def test_a_level_that_is_none_is_one_line_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "jobs/score.py", "--help"],
        env={**os.environ, "ESMM_SPARK_LOG": "loud"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: ESMM_SPARK_LOG = 'loud': must be one of DEBUG, INFO, WARNING, ERROR\n"


def test_a_record_is_written_once_and_to_what_stderr_is_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ESMM_SPARK_LOG", raising=False)
    set_up_logging()
    set_up_logging()
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        logging.getLogger("esmm_spark.x").exception("a defect")
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[-1]) == ("error: a defect", "ZeroDivisionError")
    assert lines.count("error: a defect") == 1


def test_a_wrong_level_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("esmm_spark")
    before = logger.level
    monkeypatch.setenv("ESMM_SPARK_LOG", "loud")
    with pytest.raises(ConfigError, match="'loud'"):
        set_up_logging()
    assert logger.level == before


WORKERS = """
import sys
sys.path.insert(0, "{root}")
from esmm_spark.spark.session import spark_session
spark = spark_session("log", {{"spark.python.daemon.module": "esmm_spark.spark.daemon",
    "spark.master": "local[1]", "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1"}})
def told(batches):
    import logging
    logging.getLogger("esmm_spark.x").debug("in a worker")
    yield from batches
spark.range(1).mapInArrow(told, "id long").collect()
spark.stop()
"""


@pytest.mark.spark
@pytest.mark.slow
def test_sparks_python_workers_log_likewise() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKERS.format(root=ROOT)],
        env={**os.environ, "ESMM_SPARK_LOG": "DEBUG", "PYSPARK_SUBMIT_ARGS": "pyspark-shell"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "debug: esmm_spark.x: in a worker" in done.stderr.splitlines()
