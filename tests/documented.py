"""The configs that docs show, for tests that run them."""

import re
from pathlib import Path

from tests.repository import ROOT

_FOLDERS = r"(?<![\w/])(shop|requests|ga4)/"


def documented_config(page: str, heading: str, first: str = "logs:") -> str:
    """Returns the block below a heading of a page of docs that begins with the line `first`, as YAML."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = re.split(r"\n#+ ", text.split(f" {heading}\n", 1)[1])[0]
    lines = section.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"    {first}"))
    block = []
    for line in lines[start:]:
        if not line.startswith("    "):
            break
        block.append(line[4:])
    return "\n".join(block) + "\n"


def walked_config(heading: str, folder: Path) -> Path:
    """Writes the config of a walk of docs/your-logs.md, its folders below another one; returns its path."""
    text = documented_config("your-logs.md", heading, "paths:")
    path = folder / "config.yaml"
    path.write_text(re.sub(_FOLDERS, rf"{folder}/\1/", text))
    return path
