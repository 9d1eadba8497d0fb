"""What the figures were measured on."""

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("pyspark", "petastorm", "pyarrow", "numpy", "torch", "horovod", "numba", "safetensors")
_FBGEMM = ("fbgemm-gpu-cpu", "fbgemm-gpu")


def describe_machine() -> dict[str, str | int | float | dict[str, str]]:
    """Returns CPU model, cores, memory, operating system, package versions, commit and date."""
    versions = {name: version for name in (*PACKAGES, *_FBGEMM) if (version := _version(name))}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "java": _java_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "packages": versions,
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _java_version() -> str:
    try:
        done = subprocess.run(["java", "-version"], capture_output=True, text=True)
    except OSError:
        return "?"
    return (done.stderr.splitlines() or ["?"])[0]


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:
        return "?"
    return done.stdout.strip() or "?"
