"""scripts/setup.sh where something is missing: one line that says what to install, and nothing is made."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# All that the script itself runs before it looks for what may be missing.
TOOLS = ("bash", "cat", "cut", "dirname", "head", "id", "sed", "sha256sum")
JAVA = "#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder for PATH with the script's own tools: no Java, Python, compiler or package manager."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None, tool
        (folder / tool).symlink_to(found)
    return folder


def add(machine: Path, name: str, script: str) -> None:
    (machine / name).write_text(script)
    (machine / name).chmod(0o755)


def error_of_setup(machine: Path, **environment: str) -> str:
    venv = machine.parent / "venv"
    done = subprocess.run(
        [str(machine / "bash"), str(ROOT / "scripts" / "setup.sh"), str(venv)],
        env={"PATH": str(machine), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, venv.exists()) == (2, "", False), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_machine_without_java_is_told_what_to_install(machine: Path) -> None:
    assert error_of_setup(machine) == (
        "error: Spark needs Java 17, found none: install it (Debian: apt-get install openjdk-17-jre-headless)"
    )


def test_another_java_is_named_with_where_it_was_found(machine: Path) -> None:
    add(machine, "java", JAVA.format(version="11.0.2"))
    assert "Spark needs Java 17, found 11: install it" in error_of_setup(machine)
    home = machine.parent / "jdk"
    (home / "bin").mkdir(parents=True)
    add(home / "bin", "java", JAVA.format(version="1.8.0_292"))
    assert f"found JAVA_HOME={home} with 1: install it" in error_of_setup(machine, JAVA_HOME=str(home))


def test_a_missing_or_other_python_and_a_missing_compiler_are_named(machine: Path) -> None:
    add(machine, "java", JAVA.format(version="17.0.9"))
    assert "error: python3.11 not found: install Python 3.11 (Debian: apt-get install python3.11-venv)" in (
        error_of_setup(machine)
    )
    add(machine, "python3.12", '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.12.1 && exit 0\nexit 1\n')
    assert error_of_setup(machine, PYTHON="python3.12").startswith("error: Python 3.12.1 found, 3.11 needed")
    add(machine, "python3.11", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert error_of_setup(machine) == (
        "error: g++ not found, Horovod is built from source: install it "
        "(Debian: apt-get install build-essential)"
    )
