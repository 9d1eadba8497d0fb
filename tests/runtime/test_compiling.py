"""Kernels that are kept on disk are never out of date, and are no condition for running."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from esmm_spark.logs import compiling as of_lines
from esmm_spark.model.kernels import compilation as of_model
from esmm_spark.runtime import compiling

PACKAGE = Path(compiling.__file__).parents[1]


def imported_files(path: Path) -> set[str]:
    """Returns the files of the package that a file imports, relative to the package."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("esmm_spark."):
            name = node.module.removeprefix("esmm_spark.").replace(".", "/") + ".py"
            names.add(name)
    return names


# Compiles kernels, and types that numba does not look at.
_NO_PART = {"runtime/compiling.py", "runtime/arrays.py"}


@pytest.mark.parametrize(
    ("rooms", "named", "drivers"),
    [
        # What drives a kernel from Python is no part of it.
        (
            ("logs", "samples"),
            of_lines.LINE_KERNEL_FILES,
            {"samples/grouping/grouper.py", *_NO_PART},
        ),
        (("model",), of_model.MODEL_KERNEL_FILES, _NO_PART),
    ],
)
def test_every_file_that_a_kernel_is_made_of_makes_its_kept_copy_out_of_date(
    rooms: tuple[str, ...], named: tuple[str, ...], drivers: set[str]
) -> None:
    with_kernels = {
        str(path.relative_to(PACKAGE))
        for room in rooms
        for path in (PACKAGE / room).rglob("*.py")
        if "kernel\ndef " in path.read_text(encoding="utf-8")
    }
    assert len(with_kernels) > 2
    assert with_kernels <= set(named)
    for name in with_kernels:
        assert imported_files(PACKAGE / name) - drivers <= set(named), name


def test_no_kernel_takes_more_than_eight_parameters() -> None:
    counts = {
        f"{path.relative_to(PACKAGE)}: {function.name}": len(function.args.args)
        for path in PACKAGE.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        if any(
            isinstance(name, ast.Name) and re.search("kernel|inlined", name.id)
            for name in function.decorator_list
        )
    }
    assert len(counts) > 50
    assert {name: count for name, count in counts.items() if count > 8} == {}


def test_without_a_folder_to_write_a_kernel_is_compiled_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder can be made below a file")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    compiling.cache_folder.cache_clear()
    try:

        @of_lines.kernel
        def add(a: int, b: int) -> int:
            return a + b

        assert compiling.cache_folder(of_lines.LINE_KERNEL_FILES) is None
        assert add(1, 2) == 3
    finally:
        compiling.cache_folder.cache_clear()


@pytest.mark.slow
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
