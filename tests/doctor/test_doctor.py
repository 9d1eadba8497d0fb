"""`esmm-spark doctor` as a whole: a line per check, and what its exit code is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from esmm_spark.contracts.errors import ConfigError, UserError
from esmm_spark.doctor import console as console_module
from esmm_spark.doctor.console import console
from esmm_spark.doctor.finding import Finding, Outcome, guarded, right, wrong
from tests.repository import ROOT


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from esmm_spark.doctor.console import run_console as run\n"
    program += "sys.argv[0] = 'esmm-spark'; run()"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_this_machine_is_fit_and_each_check_is_a_line() -> None:
    done = run("doctor")
    assert done.returncode == 0, done.stdout
    *lines, last = done.stdout.splitlines()
    assert last == f"{len(lines)} checks, none failed"
    assert {line[:8].strip() for line in lines} <= {"ok", "note"}
    whats = [line[8:].partition(":")[0] for line in lines]
    for what in ("Python", "packages", "Java", "kernels of model", "Horovod", "Horovod's patch", "memory"):
        assert what in whats, done.stdout


@pytest.mark.slow
def test_a_check_that_fails_is_told_and_ends_in_exit_code_2(tmp_path: Path) -> None:
    done = run("doctor", "--metrics-file", str(tmp_path / "m.prom"), JAVA_HOME=str(tmp_path))
    assert done.returncode == 2
    (failed,) = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert failed.startswith(f"FAILED  Java: {tmp_path}/bin/java doesn't run (")
    (error,) = done.stderr.splitlines()
    assert error == f"error: 1 of {len(done.stdout.splitlines())} checks failed"
    assert 'exit_code{command="esmm-spark",output=""} 2\n' in (tmp_path / "m.prom").read_text()


@pytest.mark.slow
def test_help_and_mistakes_answer_without_a_check() -> None:
    assert "doctor" in run("--help").stdout
    assert "--hosts" in run("doctor", "--help").stdout
    for arguments, error in (
        ((), "the following arguments are required: COMMAND (see --help)"),
        (("doctor", "--nothing"), "unrecognized arguments: --nothing (see --help)"),
        (("doctor", "--config", "no.yaml"), "no config at no.yaml: No such file or directory"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {error}\n")


@pytest.mark.parametrize("hosts", ["", "a,,b", "-oProxyCommand=x", ":4"])
def test_hosts_that_are_none_are_refused(hosts: str) -> None:
    with pytest.raises(ConfigError, match="is no host: write host1,host2"):
        console(["doctor", f"--hosts={hosts}"])


def test_an_override_without_a_config_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.seed=1 overrides a key of no config"):
        console(["doctor", "train.seed=1"])


def test_notes_are_no_failures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    findings = [right("a", "b"), Finding(Outcome.NOTE, "c", "d\ne s3a://KEY:SECRET@bucket")]
    monkeypatch.setattr(console_module, "_findings", lambda config, hosts: iter(findings))
    console(["doctor"])
    assert capsys.readouterr().out == (
        "ok      a: b\nnote    c: d e s3a://***@bucket\n2 checks, none failed\n"
    )
    findings.append(wrong("f", "g"))
    with pytest.raises(UserError, match="1 of 3 checks failed"):
        console(["doctor"])


def test_a_check_that_itself_fails_is_a_finding() -> None:
    def broken() -> list[Finding]:
        raise ZeroDivisionError("x")

    assert list(guarded("memory", broken)) == [wrong("memory", "ZeroDivisionError: x")]
