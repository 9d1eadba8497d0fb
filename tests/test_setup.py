"""scripts/setup.sh: what a machine lacks is told in one line, before anything is made; what else it makes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository import ROOT
from tests.scripts import script_named

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


def test_everything_that_a_bare_machine_lacks_is_told_in_one_line_with_its_packages(machine: Path) -> None:
    assert error_of_setup(machine) == (
        "error: missing: Java 17 (found none), Python 3.11 with venv and Python.h (found none), g++, make: "
        "on Debian 12 apt-get install openjdk-17-jre-headless python3.11-venv python3.11-dev build-essential "
        "(or set PYTHON=/path/to/python3.11)"
    )


def test_another_java_is_named_with_where_it_was_found(machine: Path) -> None:
    add(machine, "java", JAVA.format(version="11.0.2"))
    assert "missing: Java 17 (found 11), " in error_of_setup(machine)
    home = machine.parent / "jdk"
    (home / "bin").mkdir(parents=True)
    add(home / "bin", "java", JAVA.format(version="1.8.0_292"))
    assert f"Java 17 (found JAVA_HOME={home} with 1), " in error_of_setup(machine, JAVA_HOME=str(home))


def test_another_python_is_named_and_a_missing_compiler(machine: Path) -> None:
    add(machine, "java", JAVA.format(version="17.0.9"))
    add(machine, "python3", "#!/bin/sh\necho Python 3.12.1\n")
    error = error_of_setup(machine)
    assert error.startswith("error: missing: Python 3.11 with venv and Python.h (found Python 3.12.1), g++")
    assert error.endswith("build-essential (or set PYTHON=/path/to/python3.11)")
    assert "(found Python 3.12.1)" in error_of_setup(machine, PYTHON="python3")
    add(machine, "python3.11", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert error_of_setup(machine) == (
        "error: missing: g++, make: on Debian 12 apt-get install build-essential"
    )


def test_a_missing_header_is_found_before_anything_is_made(machine: Path) -> None:
    add(machine, "java", JAVA.format(version="17.0.9"))
    add(machine, "python3.11", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    add(machine, "make", "#!/bin/sh\n")
    # As g++ does without python3.11-dev.
    add(machine, "g++", "#!/bin/sh\nwhile read -r line; do case $line in *Python.h*) exit 1 ;; esac; done\n")
    error = error_of_setup(machine)
    assert error.startswith("error: missing: Python.h of python3.11 (looked in /")
    assert error.endswith("on Debian 12 apt-get install python3.11-dev (or set PYTHON=/path/to/python3.11)")


def test_a_failed_build_of_horovod_shows_the_compilers_error_and_keeps_its_log(tmp_path: Path) -> None:
    words = [f"noise {number}" for number in range(60)]
    lines = ["error: subprocess-exited-with-error", "/tmp/a.cc:3:10: fatal error: b.h: No such file", *words]
    failing = tmp_path / "python"
    failing.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        "*is_available*) ;;\n"
        "*sys.prefix*) echo /nowhere ;;\n"
        "*torch*) echo cp311-torch0 ;;\n"
        "*) cat <<END\n" + "\n".join(lines) + "\nEND\nexit 1 ;;\n"
        "esac\n"
    )
    failing.chmod(0o755)
    done = subprocess.run(
        [str(ROOT / "scripts" / "build_horovod.sh"), str(failing)],
        env={**os.environ, "TMPDIR": str(tmp_path), "ESMM_SPARK_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    _, first, last = done.stderr.splitlines()
    assert first == lines[1]
    log = last.rpartition(" ")[2]
    assert (
        last == f"error: Horovod 0.28.1 did not build: its first errors are above, the whole log is in {log}"
    )
    assert Path(log).read_text().splitlines() == lines


# What scripts/patch_horovod.sh changes: file -> before and after.
PATCHED = {
    "CMakeLists.txt": ("set(CMAKE_CXX_STANDARD 14)\n", "set(CMAKE_CXX_STANDARD 17)\n"),
    "horovod/torch/CMakeLists.txt": ("set(CMAKE_CXX_STANDARD 14)\n", "set(CMAKE_CXX_STANDARD 17)\n"),
    "third_party/gloo/gloo/transport/tcp/pair.cc": (
        "  std::unique_lock<std::mutex> lock(m_, std::try_to_lock);\n  if (!lock) {\n    return;\n  }\n"
        "  if (!lock) {\n",
        "#include <thread>\n  std::unique_lock<std::mutex> lock(m_, std::try_to_lock);\n  if (!lock) {\n"
        "    std::this_thread::yield();\n    return;\n  }\n  if (!lock) {\n",
    ),
    "horovod/runner/common/util/safe_shell_exec.py": (
        "    if index is not None and prefix is not None:\n",
        "    if index and prefix is not None:\n",
    ),
    "cmake/Modules/FindPytorch.cmake": ("x = (CUDA_HOME is not None)\n", "x = (False)\n"),
}


def patched(source: Path, *gpu_operations: str) -> list[str]:
    """Runs the patches and returns what they say."""
    done = subprocess.run(
        [str(ROOT / "scripts" / "patch_horovod.sh"), str(source), *gpu_operations],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr.splitlines()


@pytest.fixture
def horovod(tmp_path: Path) -> Path:
    """A source tree of the files of Horovod that are patched."""
    for name, (before, _) in PATCHED.items():
        file = tmp_path / "horovod-0" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(before)
    return tmp_path / "horovod-0"


def test_horovod_is_patched_in_silence_where_each_line_is_there(horovod: Path) -> None:
    assert patched(horovod) == []
    assert {name: (horovod / name).read_text() for name in PATCHED} == {
        name: after for name, (_, after) in PATCHED.items()
    }
    assert len([path for path in horovod.rglob("*") if path.is_file()]) == len(PATCHED)


@pytest.mark.parametrize("gone", list(PATCHED))
@pytest.mark.parametrize("is_there", [True, False], ids=["another content", "no file"])
def test_a_patch_of_horovod_whose_line_is_gone_is_left_out_and_the_others_are_made(
    horovod: Path, gone: str, is_there: bool
) -> None:
    if is_there:
        (horovod / gone).write_text("another\n")
    else:
        (horovod / gone).unlink()
    (line,) = patched(horovod)
    reason = f"{gone} has no " if is_there else f"there is no {gone}"
    assert re.search(rf"^warning: the build of Horovod goes on without .*, because {re.escape(reason)}", line)
    if is_there:
        assert (horovod / gone).read_text() == "another\n"
    others = {name: after for name, (_, after) in PATCHED.items() if name != gone}
    assert {name: (horovod / name).read_text() for name in others} == others


def test_horovod_looks_for_cuda_where_it_is_built_for_gpus(horovod: Path) -> None:
    assert patched(horovod, "NCCL") == []
    name = "cmake/Modules/FindPytorch.cmake"
    assert (horovod / name).read_text() == PATCHED[name][0]


def test_readme_and_docs_name_the_packages_that_setup_asks_for(machine: Path) -> None:
    asked = set(error_of_setup(machine).partition("apt-get install ")[2].partition(" (or")[0].split())
    readme = (ROOT / "README.md").read_text()
    (line,) = (text for text in readme.splitlines() if text.strip().startswith("apt-get install"))
    assert {*asked, "git"} == set(line.split()[2:])
    assert all(f"`{package}`" in (ROOT / "docs" / "installation.md").read_text() for package in asked)


def test_spark_is_made_quiet_once_and_its_old_files_are_left_to_who_shares_them(tmp_path: Path) -> None:
    home, other = tmp_path / "spark", tmp_path / "spark-class-of-another-venv"
    (home / "bin").mkdir(parents=True)
    script = home / "bin" / "spark-class"
    start = 'CMD=(java --add-modules=jdk.incubator.vector Main "a b" 0)\nLAST=4\nCMD=("${CMD[@]:0:$LAST}")\n'
    script.write_text(f"#!/usr/bin/env bash\n{start}printf '<%s>' \"${{CMD[@]}}\"\n")
    script.chmod(0o755)
    other.hardlink_to(script)
    quieten = script_named("prepare_spark").quieten
    quieten(home)
    quieten(home)
    assert subprocess.run([str(script)], capture_output=True, text=True).stdout == "<java><Main><a b>"
    assert "esmm_spark" not in other.read_text()
    script.write_text(script.read_text() + 'printf %s "${SPARK_LOCAL_IP:-}"')
    for known, address in (("exit 0", ""), ("exit 2", "127.0.0.1")):
        (tmp_path / "getent").write_text(f"#!/bin/sh\n{known}\n")
        (tmp_path / "getent").chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run([str(script)], capture_output=True, text=True, env=environment)
        assert done.stdout == f"<java><Main><a b>{address}"
    assert "level = error" in (home / "conf" / "log4j2.properties").read_text()
    script.write_text("another")
    with pytest.raises(SystemExit, match="is not that of Spark"):
        quieten(home)


def test_the_archive_of_classes_is_used_where_the_class_path_is_that_of_the_jars_and_folders(
    tmp_path: Path,
) -> None:
    home = tmp_path / "a spark"
    (home / "bin").mkdir(parents=True)
    script = home / "bin" / "spark-class"
    script.write_text(
        f"#!/usr/bin/env bash\nSPARK_HOME='{home}'\nCMD=(java -cp \"$1\" Main -cp x 0)\nLAST=6\n"
        'CMD=("${CMD[@]:0:$LAST}")\nprintf \'<%s>\' "${CMD[@]}"\n'
    )
    script.chmod(0o755)
    prepare = script_named("prepare_spark")
    prepare.quieten(home)

    def command(class_path: str) -> str:
        return subprocess.run([str(script), class_path], capture_output=True, text=True, check=True).stdout

    usual = f"hive-jackson/*:/a conf/:{home}/jars/*:{home}/jars/slf4j-api.jar:/hadoop/"
    assert command(usual) == f"<java><-cp><{usual}><Main><-cp><x>"
    (home / prepare.ARCHIVE).touch()
    options = "".join(
        f"<{option}>" for option in (f"-XX:SharedArchiveFile={home}/{prepare.ARCHIVE}", *prepare._SILENT)
    )
    assert command(usual) == f"<java>{options}<-cp><{home}/jars/*:/a conf/:/hadoop/><Main><-cp><x>"
    own = f"/own.jar:{usual}"
    assert command(own) == f"<java><-cp><{own}><Main><-cp><x>"


def test_setup_goes_on_without_an_archive_of_classes_and_leaves_no_part_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jdk" / "bin").mkdir(parents=True)
    java = tmp_path / "jdk" / "bin" / "java"
    java.write_text(
        '#!/bin/sh\nfor i; do case $i in -XX:Archive*) touch "${i#*=}" ;; esac; done\nexit $FAILS\n'
    )
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    prepare = script_named("prepare_spark")
    monkeypatch.setattr(prepare.pyspark, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(prepare, "quieten", lambda home: None)
    monkeypatch.setenv("FAILS", "1")
    prepare.main()
    assert capsys.readouterr().err.startswith("Spark's classes were not archived")
    assert not [path.name for path in tmp_path.iterdir() if ".jsa" in path.name]
    monkeypatch.setenv("FAILS", "0")
    prepare.main()
    assert [path.name for path in tmp_path.glob("*.jsa")] == [prepare.ARCHIVE]


def test_setup_compiles_the_kernels_of_preprocessing_for_every_type_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = script_named("compile_kernels")
    compiled: list[str] = []
    monkeypatch.setattr(script, "compile_kernels", lambda spec: compiled.append(spec.row_type))
    monkeypatch.setattr(script, "compile_for_training", lambda configs: None)
    script.main()
    assert compiled == ["int"]
