"""Checks of this machine: Python and its packages, Java, compiled kernels, Horovod, memory."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from esmm_spark.contracts.config import Config
from esmm_spark.doctor.finding import Finding, Outcome, right, wrong
from esmm_spark.evaluation.kernels.compiling import SCORE_KERNEL_FILES
from esmm_spark.logs.compiling import LINE_KERNEL_FILES
from esmm_spark.model.embedding.row_optimizer import row_optimizer_of
from esmm_spark.model.kernels.compilation import MODEL_KERNEL_FILES
from esmm_spark.runtime.compiling import cache_folder
from esmm_spark.runtime.memory import memory_limit_bytes

_PYTHON = (3, 11)
_JAVAS = (17, 21)
_FBGEMM = ("fbgemm-gpu", "fbgemm-gpu-cpu")
_PIN = re.compile(r"([\w.-]+)==([\w.]+)")
_SECONDS = 60
_FLOAT_BYTES = 4
# conf/spark gives Spark's driver 4 GB of its own.
_LEAST_BYTES = 6 << 30
# What scripts/patch_horovod.sh makes of horovodrun, as far as it can be seen without its source.
_PATCHED_LINE = "if index and prefix is not None:"


def check_python() -> Iterator[Finding]:
    """Yields whether this is the Python that the packages are pinned for."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == _PYTHON:
        yield right("Python", f"{version}, {sys.executable}")
    else:
        yield wrong("Python", f"{version}, {sys.executable}: petastorm needs 3.11, see docs/installation.md")


def check_packages() -> Iterator[Finding]:
    """Yields whether the packages are those that were tried together."""
    pins = [pin for text in metadata.requires("esmm_spark") or [] if (pin := _PIN.match(text))]
    needed = [pin for pin in pins if "extra ==" not in pin.string]
    others = []
    for pin in needed:
        found = _version(pin[1])
        if found != pin[2]:
            others.append(f"{pin[1]} is {found or 'missing'}, not {pin[2]}")
    if not any(map(_version, _FBGEMM)):
        others.append(f"{' or '.join(_FBGEMM)} is missing")
    if others:
        yield wrong("packages", f"{'; '.join(others)}: run make setup")
    else:
        yield right("packages", f"{len(needed)} are the versions that were tried together")


def check_java() -> Iterator[Finding]:
    """Yields whether there is a Java that Spark runs on, and a spark-submit of this environment."""
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    remedy = "install Java 17 (Debian: openjdk-17-jre-headless), or set JAVA_HOME to it"
    if java is None:
        yield wrong("Java", f"there is none: {remedy}")
    else:
        try:
            told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=_SECONDS).stderr
        except OSError as error:
            told = str(error)
        version = re.search(r'version "(\d+)([^"]*)"', told)
        if version is None or int(version[1]) not in _JAVAS:
            found = f"is {version[1]}{version[2]}" if version else f"doesn't run ({told[:200]})"
            yield wrong("Java", f"{java} {found}: {remedy}")
        else:
            yield right("Java", f"{version[1]}{version[2]}, {java}")
    submit = shutil.which("spark-submit")
    if submit is None:
        yield wrong("spark-submit", f"not in PATH: add {Path(sys.executable).parent}")
    elif Path(submit).parent.resolve() != Path(sys.executable).parent.resolve():
        yield Finding(Outcome.NOTE, "spark-submit", f"{submit} is not that of this environment")
    else:
        yield right("spark-submit", submit)


def check_kernels() -> Iterator[Finding]:
    """Yields whether the kernels are compiled; if not, the first run does it."""
    kernels = {"logs": LINE_KERNEL_FILES, "model": MODEL_KERNEL_FILES, "evaluation": SCORE_KERNEL_FILES}
    for name, files in kernels.items():
        what, folder = f"kernels of {name}", cache_folder(files)
        if folder is None:
            yield wrong(
                what, "no folder for them can be written: each process compiles: set NUMBA_CACHE_DIR to one"
            )
            continue
        number = len(list(Path(folder).rglob("*.nbi")))
        if number:
            yield right(what, f"{number} are compiled, in {folder}")
        else:
            yield Finding(
                Outcome.NOTE,
                what,
                "not compiled yet: the first run takes half a minute longer",
            )


def check_horovod(config: Config | None) -> Iterator[Finding]:
    """Yields whether Horovod is built for this torch, is patched, and finds this host's address."""
    version = _version("horovod")
    if version is None and config is not None and config.train.backend == "torch":
        yield Finding(Outcome.NOTE, "Horovod", "not installed, and train.backend: torch does without")
        return
    if version is None:
        yield wrong("Horovod", "not installed: run make setup; without it training has one rank")
        return
    # In a process of its own: what is built against another torch may crash.
    script = "import horovod.torch as hvd; print(hvd.gloo_built(), bool(hvd.nccl_built()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=_SECONDS)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield wrong("Horovod", f"{version} doesn't load: {last}: build it again, make setup")
    else:
        gloo, nccl = (word == "True" for word in done.stdout.split())
        with_nccl = ", NCCL" if nccl else ""
        if gloo:
            yield right("Horovod", f"{version}, Gloo{with_nccl}")
        else:
            yield wrong("Horovod", f"{version} is built without Gloo: run make setup")
    found = util.find_spec("horovod")
    packages = Path(found.origin if found and found.origin else "").parents[1]
    launcher = packages / "horovod/runner/common/util/safe_shell_exec.py"
    if _PATCHED_LINE in launcher.read_text(encoding="utf-8"):
        yield right("Horovod's patch", "is there")
    else:
        yield Finding(
            Outcome.NOTE, "Horovod's patch", "is not there (docs/decisions/014, 021): make setup builds it so"
        )
    name = socket.gethostname()
    try:
        address = socket.getaddrinfo(name, None)[0][4][0]
        yield right("host name", f"{name} is {address}")
    except OSError as error:
        yield wrong(
            "host name",
            f"{name} has no address ({error.strerror}), which Horovod asks for: add it to /etc/hosts",
        )


def check_memory(config: Config | None, num_hosts: int) -> Iterator[Finding]:
    """Yields whether a host's memory holds its share of the embedding, if there is a config."""
    limit = memory_limit_bytes()
    if limit < _LEAST_BYTES:
        text = f"{_gib(limit)}: Spark's driver has 4 GiB in conf/spark: lower spark.driver.memory"
        yield Finding(Outcome.NOTE, "memory", text)
    else:
        yield right("memory", _gib(limit))
    if config is None:
        return
    rows = config.features.num_rows * config.objective.num_embeddings
    optimizer = config.train.embedding_optimizer
    state_width = row_optimizer_of(config.train).state_width(config.model.dim)
    share = rows * (config.model.dim + state_width) * _FLOAT_BYTES // num_hosts
    text = (
        f"{rows:,} rows x (dim {config.model.dim} + {state_width} of {optimizer}) x 4 bytes: {_gib(share)} "
        f"on each of {num_hosts} hosts"
    )
    if share > limit:
        yield wrong("embedding", f"{text}, this one has {_gib(limit)}: more hosts, or fewer num_buckets")
    else:
        yield right("embedding", text)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
