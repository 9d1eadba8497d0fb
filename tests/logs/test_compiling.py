"""Kernels that are kept on disk are never out of date, and are no condition for running."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from esmm_spark.logs import compiling

PACKAGE = Path(compiling.__file__).parent.parent


def imported_files(path: Path) -> set[str]:
    """Returns the files of the package that a file imports, relative to the package."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("esmm_spark."):
            name = node.module.removeprefix("esmm_spark.").replace(".", "/") + ".py"
            names.add(name)
    return names


def test_every_file_that_a_kernel_is_made_of_makes_its_kept_copy_out_of_date() -> None:
    with_kernels = {
        str(path.relative_to(PACKAGE))
        for room in ("logs", "samples")
        for path in (PACKAGE / room).glob("*.py")
        if "kernel\ndef " in path.read_text(encoding="utf-8")
    }
    assert len(with_kernels) > 5
    assert with_kernels <= set(compiling.KERNEL_FILES)
    for name in with_kernels:
        # What drives a kernel from Python is no part of it.
        used = imported_files(PACKAGE / name) - {"samples/grouper.py"}
        assert used <= set(compiling.KERNEL_FILES), name


def test_without_a_folder_to_write_a_kernel_is_compiled_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder can be made below a file")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    compiling._cache_folder.cache_clear()
    try:

        @compiling.kernel
        def add(a: int, b: int) -> int:
            return a + b

        assert compiling._cache_folder() is None
        assert add(1, 2) == 3
    finally:
        compiling._cache_folder.cache_clear()


def test_numba_s_own_setting_is_left_as_it_was(tmp_path: Path) -> None:
    code = (
        "import numba, esmm_spark.logs.aliccp as a, numpy as np\n"
        "assert a.is_utf8(np.zeros(1, np.uint8), 0, 1)\n"
        "print(numba.config.CACHE_DIR)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""
    assert list((tmp_path / "esmm_spark" / "kernels").rglob("*.nbi"))
