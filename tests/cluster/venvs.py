"""Venvs of what tests run beside the package, kept from run to run in the user's cache."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from esmm_spark.contracts.schemas.layout import MARKER


def venv_of(name: str, lock: Path) -> Path:
    """Returns a venv with the packages that `lock` pins; skips the test where they can't be installed."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    venv = Path.home() / ".cache" / "esmm_spark" / f"{name}-{digest}"
    if not (venv / MARKER).exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        command = [str(venv / "bin" / "pip"), "install", "--quiet", "--requirement", str(lock)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"{name} can't be installed: {done.stderr.splitlines()[-1]}")
        (venv / MARKER).touch()
    return venv
