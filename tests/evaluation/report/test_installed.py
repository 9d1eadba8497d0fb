"""A report needs files that are no Python: an installed package must have them."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.repository import ROOT

TEMPLATES = [f"esmm_spark/{room}/templates" for room in ("evaluation/report", "pages", "profile")]
SCRIPT = """
import esmm_spark
from esmm_spark.pages.page import Frame, PageSection, Table, page
table = Table(["Day", "clicks"], [("1st", [7])])
print(esmm_spark.__file__)
print(page(Frame("title", "lead"), [PageSection("Joined", "tables.html", {"texts": [], "tables": [table]})]))
"""


@pytest.mark.slow
def test_an_installed_wheel_has_every_template_and_renders_without_the_repository(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "esmm_spark", source / "esmm_spark", ignore=ignored)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*build, "-w", str(tmp_path), str(source)], check=True, timeout=240)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        packed = {name for name in file.namelist() if name.startswith(tuple(TEMPLATES))}
        file.extractall(site)
    assert packed == {f"{folder}/{path.name}" for folder in TEMPLATES for path in (ROOT / folder).iterdir()}
    shutil.rmtree(source)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    where, _, html = done.stdout.partition("\n")
    assert where.startswith(str(site))
    assert '<td class="n" data-label="clicks">7</td>' in html
