"""Executors work with an environment that is packed and shipped to them: this repository isn't there."""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.runs import Run, assert_same_examples
from tests.cluster.standalone import Standalone, cannot_hide, finish, wait_until
from tests.cluster.venvs import venv_of
from tests.repository import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]

_LOCK = Path(__file__).parent / "venv-pack.lock"
# How their names begin, 2.1 of 2.6 GB: Spark's own package, which every worker has, this one, and what a
# preprocess doesn't import.
_LEFT_OUT = re.compile(
    "pyspark|__editable__|esmm_spark-|torch|scipy|sklearn|sympy|horovod|fbgemm_gpu|matplotlib|fontTools|"
    "tensorboard|grpc|networkx|mypy|pip"
)
# Of Python workers.
_PARENT = "esmm_spark.samples.daemon"
# The package as it is now, and not as a link to the repository.
_SOURCES = ("esmm_spark", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def copied_environment(folder: Path) -> Path:
    """Makes a venv with the packages of the one at work but `_LEFT_OUT`, and with this package installed."""
    environment, source = folder / "environment", folder / "source"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = Path(sysconfig.get_path("purelib"))
    (copied,) = environment.glob("lib/python*/site-packages")
    for path in packages.iterdir():
        if _LEFT_OUT.match(path.name):
            continue
        if path.is_dir():
            shutil.copytree(path, copied / path.name, dirs_exist_ok=True)
        else:
            shutil.copy2(path, copied)
    for name in _SOURCES:
        path = ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, source / name)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-build-isolation", str(source)], check=True)
    return environment


@pytest.fixture
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """A cluster whose workers see nothing of this repository, nor of its environment."""
    if (reason := cannot_hide()) is not None:
        pytest.skip(reason)
    standalone = Standalone(tmp_path_factory.mktemp("bare"), hidden=ROOT)
    yield standalone
    standalone.close()


def test_a_packed_environment_is_all_that_executors_need(
    bare: Standalone, local: Run, raw: Path, tmp_path: Path
) -> None:
    venv_pack = venv_of("venv-pack", _LOCK) / "bin" / "venv-pack"
    archive = tmp_path / "env.tar.gz"
    command = [str(venv_pack), "--prefix", str(copied_environment(tmp_path)), "--output", str(archive)]
    subprocess.run([*command, "--compress-level", "1", "--quiet"], check=True)
    shutil.rmtree(tmp_path / "environment")

    run = Run("demo", raw, tmp_path / "run")
    job = bare.start(
        "preprocess",
        *run.arguments,
        # spark.archives is what --archives sets. One executor: each compiles the kernels for itself.
        options={
            "spark.cores.max": "1",
            "spark.archives": f"{archive}#env",
            "spark.executorEnv.NUMBA_CACHE_DIR": str(tmp_path / "kernels"),
        },
        variables={"PYSPARK_PYTHON": "./env/bin/python", "PYSPARK_DRIVER_PYTHON": sys.executable},
    )
    wait_until(lambda: bool(run.staged()), "a task writes", [job])
    executors = bare.executors()
    seen = [path for executor in executors for path in Path(f"/proc/{executor.pid}/root{ROOT}").iterdir()]
    commands = [child.cmdline() for executor in executors for child in executor.children()]
    finish(job)
    assert seen == []
    assert {command[0] for command in commands if _PARENT in command} == {"./env/bin/python"}
    assert_same_examples(run, local)
