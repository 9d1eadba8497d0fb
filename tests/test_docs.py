"""What docs, docstrings and comments name is there, and docs fit a terminal."""

import re
from pathlib import Path

import pytest

from esmm_spark.contracts.config_file import load_config
from tests.documented import walked_config
from tests.repository import ROOT

MOST_COLUMNS = 120
FOLDERS = ("esmm_spark", "jobs", "scripts", "bench", "tests", "conf", "docs")
# Files of others, which docs name.
NOT_OURS = {"esmm.py", "package.py", "entrypoint.sh", "conf/spark/spark-env.sh", "load-spark-env.sh"}
THEIRS = ("horovod/", "petastorm/", "pyspark/", "torch/")

DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FILES = [f"/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]

_FILE = re.compile(r"(?<![\w./<*{}-])(?:[\w.-]+/)*[\w-]+\.(?:py|sh|md)\b(?![\w/*{])")
_DECISION = re.compile(r"docs/decisions/(\d{3})")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_lines_of_docs_fit_120_columns(path: Path) -> None:
    """Rows of tables may be longer, and words that can't be broken."""
    long = [
        f"{number}: {line}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > MOST_COLUMNS and not line.startswith("|") and len(line.lstrip("- ").split()) > 1
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_links_between_docs_lead_somewhere(path: Path) -> None:
    for target in _LINK.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{name(path)} links to {target}"


@pytest.mark.parametrize("path", [*DOCS, *CODE], ids=name)
def test_files_that_docs_and_code_name_are_there(path: Path) -> None:
    """A file may be named from any folder on: `esmm_spark/files/lease.py`, `files/lease.py` or `lease.py`."""
    text = path.read_text(encoding="utf-8")
    # Tests write files of their own, without a folder in their names.
    in_tests = path.is_relative_to(ROOT / "tests")
    for found in _FILE.findall(text):
        if in_tests and "/" not in found:
            continue
        is_known = (
            found in NOT_OURS or found.startswith(THEIRS) or any(file.endswith(f"/{found}") for file in FILES)
        )
        assert is_known or (ROOT / found).exists(), f"{name(path)} names {found}, which isn't there"
    for number in _DECISION.findall(text):
        assert list((ROOT / "docs" / "decisions").glob(f"{number}-*.md")), f"{name(path)} names {number}"


@pytest.mark.parametrize(
    ("heading", "log_format"),
    [
        ("A flat table", "table"),
        ("Requests with order lines and refunds", "events"),
        ("An export of events, as GA4 has it", "events"),
    ],
)
def test_configs_that_the_walks_of_your_logs_show_are_valid(
    tmp_path: Path, heading: str, log_format: str
) -> None:
    config = load_config(str(walked_config(heading, tmp_path)))
    assert config.logs.format == log_format
    assert config.paths.dataset.startswith(str(tmp_path))
