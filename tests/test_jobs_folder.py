"""The folder of the jobs stands before the standard library when one of them runs."""

import subprocess
import sys

from tests.repository import ROOT


def test_a_job_called_like_a_module_of_the_standard_library_stands_in_nobodys_way() -> None:
    code = "import sys; sys.path.insert(0, 'jobs'); import cProfile; cProfile.run('1 + 1')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "function calls" in done.stdout
