"""Puts the tables of bench/results/ into README.md, between their `<!-- name -->` and `<!-- /name -->` lines.

python scripts/readme_tables.py           writes them
python scripts/readme_tables.py --check   exits with 1 if README.md holds other ones
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench.report import BUSY_LOAD  # noqa: E402

README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results"


def quality_table(name: str = "quality") -> str:
    """Returns the table of `python -m bench.<name>` as it wrote it."""
    path = RESULTS / f"{name}.md"
    if not path.exists():
        return "Not measured yet."
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


def speed_table() -> str:
    """Returns what `python -m bench` found for each goal, the goals that were missed included.

    Stages that began on a busy machine have a star.
    """
    stages = json.loads((RESULTS / "bench.json").read_text(encoding="utf-8"))["stages"]
    lines = ["| stage | | found | goal |", "|---|---|---|---|"]
    for name, result in stages.items():
        stage = f"{name}*" if result["details"]["machine"]["load_before"] > BUSY_LOAD else name
        for goal in result["goals"]:
            at_least, text = goal["at_least"], goal["text"]
            met = goal["value"] >= goal["limit"] if at_least else goal["value"] <= goal["limit"]
            limit = f"{'>=' if at_least else '<='} {_number(goal['limit'])}"
            lines.append(
                f"| {stage} | {text} | {_number(goal['value'])} | {limit}{'' if met else ', not met'} |"
            )
    return "\n".join(lines)


def full_table() -> str:
    """Returns what each command took in `python -m bench --stage full`."""
    stages = json.loads((RESULTS / "bench.json").read_text(encoding="utf-8"))["stages"]
    if "full" not in stages:
        return "Not measured yet."
    lines = ["| | seconds | CPU-seconds | peak memory, MiB |", "|---|---|---|---|"]
    for figure in stages["full"]["figures"]:
        details, name = figure["details"], figure["name"].partition(", ")[2]
        numbers = (figure["value"], details["cpu_s"], details["peak_mib"])
        lines.append(f"| {name} | {' | '.join(f'{number:,.0f}' for number in numbers)} |")
    return "\n".join(lines)


def faults() -> str:
    """Returns what `python -m bench.faults` wrote below its title."""
    return (RESULTS / "faults.md").read_text(encoding="utf-8").partition("\n")[2].strip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def filled(text: str) -> str:
    """Returns the README with its tables replaced."""
    tables = {
        "quality": quality_table(),
        "networks": quality_table("network_quality"),
        "speed": speed_table(),
        "full": full_table(),
        "faults": faults(),
    }
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        assert len(pattern.findall(text)) == 1, name
        before, _, after = text.partition(pattern.findall(text)[0])
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def main() -> None:
    """Writes or checks README.md."""
    before = README.read_text(encoding="utf-8")
    after = filled(before)
    if "--check" not in sys.argv[1:]:
        README.write_text(after, encoding="utf-8")
    elif after != before:
        print("README.md's tables are not those of bench/results/: run make docs", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
