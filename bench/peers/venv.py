"""The peers' own venv, made from requirements.txt when it isn't there or the file has changed."""

import hashlib
import subprocess
import sys
from pathlib import Path

from bench.measure import FailedCommandError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def peers_python(root: Path) -> str:
    """Returns the interpreter of the peers' venv below `root`, and makes the venv first if need be.

    Raises:
        FailedCommandError: pip failed; the message holds the end of its output.
    """
    venv = root / "peers-venv"
    python = venv / "bin" / "python"
    stamp = venv / f".complete-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    if stamp.exists():
        return str(python)
    print("  setting up the peers' venv ...", flush=True)
    for command in (
        [sys.executable, "-m", "venv", str(venv)],
        [str(python), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise FailedCommandError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    for old in venv.glob(".complete-*"):
        old.unlink()
    stamp.touch()
    return str(python)
