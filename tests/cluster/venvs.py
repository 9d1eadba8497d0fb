"""Venvs of what tests run beside the package, kept from run to run in the user's cache."""

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from esmm_spark.contracts.schemas.layout import MARKER

# Of an installation; Airflow's takes one and a half minutes.
_MOST_SECONDS = 600


def venv_of(name: str, lock: Path, *, beside_ours: bool = False) -> Path:
    """Returns a venv with the packages that `lock` pins; skips the test where they can't be installed.

    With `beside_ours` it has the packages of the environment at work, too: of those none is installed again.
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    venv = Path.home() / ".cache" / "esmm_spark" / f"{name}-{digest}"
    if not (venv / MARKER).exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        if beside_ours:
            (packages,) = venv.glob("lib/python*/site-packages")
            (packages / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        # Where there is no network this ends soon, whatever the environment says of patience.
        command = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        command += ["--retries", "2", "--timeout", "20", "--requirement", str(lock)]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=_MOST_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{name} can't be installed within {_MOST_SECONDS} s")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"{name} can't be installed: {(error.stderr or str(error)).splitlines()[-1]}")
        (venv / MARKER).touch()
    return venv
