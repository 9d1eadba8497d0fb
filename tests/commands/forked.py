"""Commands in forks of a process that has imported what they import: no test waits for that again."""

import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess

from tests.repository import ROOT

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["esmm_spark.commands.command", "esmm_spark.samples.dataset", __name__])


def run_script(script: str, *arguments: str | Path) -> CompletedProcess[str]:
    """Returns what `python script ...`, in the folder of the repository, ends with and writes."""
    return _run(script, None, arguments)


def run_code(code: str, *arguments: str | Path) -> CompletedProcess[str]:
    """Returns what `python -c code ...`, in the folder of the repository, ends with and writes."""
    return _run("-c", code, arguments)


def _run(name: str, code: str | None, arguments: tuple[str | Path, ...]) -> CompletedProcess[str]:
    argv = [name, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / "stdout", Path(folder) / "stderr"]
        process = _SERVER.Process(target=_be, args=(argv, code, outputs))
        process.start()
        process.join(200)
        # None where it hasn't ended.
        assert process.exitcode is not None, argv
        stdout, stderr = (output.read_text() for output in outputs)
    return CompletedProcess(argv, process.exitcode, stdout, stderr)


def _be(argv: list[str], code: str | None, outputs: list[Path]) -> None:
    os.chdir(ROOT)
    for descriptor, output in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = argv
    if code is None:
        runpy.run_path(argv[0], run_name="__main__")
    else:
        exec(code, {"__name__": "__main__"})
