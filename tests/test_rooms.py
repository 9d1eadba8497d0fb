"""The rooms of docs/architecture.md: no import goes to the right, none goes round in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "esmm_spark"

CONTRACTS = {
    "activity",
    "train_config",
    "locations",
    "errors",
    "unreadable",
    "memory",
    "moving",
    "storage",
    "attempts",
    "holder",
    "lease",
    "write_errors",
    "replacing",
    "footers",
    "compiling",
    "splitmix",
    "hash_kernels",
    "filesystems",
    "section",
    "path_config",
    "xxh64",
    "seals",
    "examples_file",
    "features",
    "config",
    "disjoint_paths",
    "event_config",
    "selection",
    "config_file",
    "manifest",
    "command",
}

# room -> the rooms that it may import, beside itself
ALLOWED: dict[str, set[str]] = {
    **{contract: CONTRACTS for contract in CONTRACTS},
    "session": CONTRACTS,
    "failures": CONTRACTS,
    "steps": set(),
    "daemon": set(),
    "simulation": CONTRACTS | {"session", "failures", "steps"},
    "logs": CONTRACTS | {"session"},
    "samples": CONTRACTS | {"session", "failures", "steps", "daemon", "logs"},
    "feed": CONTRACTS,
    "model": CONTRACTS,
    "training": CONTRACTS | {"feed", "model"},
    "scoring": CONTRACTS | {"session", "failures", "steps", "daemon", "logs", "samples", "feed", "model"},
    "evaluation": CONTRACTS | {"session", "failures", "steps"},
    "train": CONTRACTS | {"training"},
}

# library -> the rooms that may import it
LIBRARIES: dict[str, set[str]] = {
    "pyspark": {
        "session",
        "failures",
        "steps",
        "daemon",
        "simulation",
        "logs",
        "samples",
        "scoring",
        "evaluation",
    },
    "torch": {"feed", "model", "training", "scoring"},
    "petastorm": {"feed"},
    "horovod": {"model", "training"},
    "fbgemm_gpu": {"model"},
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(path: Path) -> set[str]:
    """Returns the dotted names of all imports of a file, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_its_left(path: Path) -> None:
    room = room_of(path)
    for name in imported_names(path):
        parts = name.split(".")
        if parts[0] == "esmm_spark" and len(parts) > 1 and parts[1] != room:
            assert parts[1] in ALLOWED[room], f"{path.relative_to(ROOT)} imports {name}"
        if parts[0] in LIBRARIES:
            assert room in LIBRARIES[parts[0]], f"{path.relative_to(ROOT)} imports {name}"


def test_no_import_goes_round_in_a_circle() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files()}
    names = {module: imported_names(path) for module, path in modules.items()}
    graph = {
        module: {
            other for other in modules if any(n == other or n.startswith(f"{other}.") for n in names[module])
        }
        for module in modules
    }
    state: dict[str, str] = {}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert state.get(module) != "open", f"circle: {' -> '.join((*trail, module))}"
        if state.get(module) == "done":
            return
        state[module] = "open"
        for other in graph[module] - {module}:
            visit(other, (*trail, module))
        state[module] = "done"

    for module in graph:
        visit(module, ())


def test_files_stay_short_enough_to_read() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files()}
    assert {name: length for name, length in lengths.items() if length > 320} == {}
