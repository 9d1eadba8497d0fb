"""The rooms of docs/architecture.md: no import goes to the right, none goes round in a circle."""

import ast
import re
from pathlib import Path

import pytest

from tests.repository import ROOT

PACKAGE = ROOT / "esmm_spark"
MOST_FILES, MOST_LINES = 18, 300

_FILES = {"contracts", "runtime", "files"}
_SPARK = _FILES | {"spark"}
_SAMPLES = {"samples", "samples.hashing", "samples.lines", "samples.grouping"}
_EMBEDDING = {"model.embedding", "model.kernels"}
_NETWORKS = {"model.fused", "model.grouped", "model.networks"}

# room -> the rooms that it may import, beside itself
ALLOWED: dict[str, set[str]] = {
    "contracts": set(),
    "runtime": {"contracts"},
    "files": {"contracts", "runtime"},
    "spark": _FILES,
    "simulation": _SPARK,
    "logs": _SPARK,
    "samples.hashing": {"contracts", "runtime", "logs"},
    "samples.lines": {"contracts", "runtime", "logs", "samples.hashing"},
    "samples.grouping": _FILES | {"logs", "samples.hashing"},
    "samples": _SPARK | {"logs", "samples.hashing", "samples.lines", "samples.grouping"},
    "reading": _SPARK | {"logs"},
    "events.reading": _FILES | {"reading"},
    "events.features": {"contracts", "runtime", "reading"},
    "events.join": _FILES | {"reading", "events.reading", "events.features"},
    "events": _SPARK | {"logs", "samples", "reading"} | {"events.reading", "events.features", "events.join"},
    "tables": _SPARK | {"logs", "samples", "samples.hashing", "reading"},
    "feed": _FILES,
    "collectives": set(),
    "model.kernels": {"runtime"},
    "model.embedding": {"contracts", "runtime", "collectives", "model.kernels"},
    "model.objectives": {"contracts", "runtime", "model.kernels"},
    "model.fused": {"runtime", "model.kernels", "model.objectives"},
    "model.grouped": {"runtime", "model.kernels"},
    "model.networks": {"contracts", "runtime", "model.fused", "model.grouped"} | _EMBEDDING,
    "model": _FILES | {"collectives"} | _EMBEDDING | _NETWORKS | {"model.objectives"},
    "training.ranks": {"contracts", "runtime", "collectives"},
    "training.optimization": {"contracts"},
    "training.tracking": {"contracts", "files"},
    "training": _FILES
    | _EMBEDDING
    | _NETWORKS
    | {"feed", "model", "model.objectives"}
    | {"training.ranks", "training.tracking", "training.optimization"},
    "scoring": _SPARK | _SAMPLES | _EMBEDDING | {"logs", "tables", "feed", "model", "model.objectives"},
    "evaluation.kernels": {"runtime"},
    "evaluation.measure": _SPARK | {"evaluation.kernels"},
    "pages": set(),
    "profile.counts": _SPARK | {"logs", "reading", "tables"},
    "profile.guesses": {"contracts", "profile.counts"},
    "profile": _SPARK | {"reading", "pages", "profile.counts", "profile.guesses"},
    "evaluation.report": {"contracts", "files", "pages", "evaluation.measure"},
    "evaluation": _SPARK | {"evaluation.kernels", "evaluation.measure", "evaluation.report"},
    "commands": _FILES,
    "doctor": _FILES | {"commands", "logs", "model.kernels", "model.embedding", "evaluation.kernels"},
    "train": {"contracts", "runtime", "commands", "training", "training.ranks"},
}

# library -> the rooms that may import it, their sub-rooms included
LIBRARIES: dict[str, set[str]] = {
    "pyspark": {"spark", "simulation", "logs", "reading", "events", "samples", "tables", "scoring", "profile"}
    | {"evaluation"},
    "torch": {"files", "collectives", "feed", "model", "training", "scoring"},
    "petastorm": {"feed"},
    "horovod": {"collectives"},
    "fbgemm_gpu": {"model.embedding"},
    "pydantic": {"contracts", "files", "spark", "samples", "model", "training", "scoring", "evaluation"},
}


def room_of(parts: tuple[str, ...]) -> str:
    """Returns the innermost room that holds a module: `model.fused` of ("model", "fused", "tower")."""
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in ALLOWED:
            return ".".join(parts[:end])
    raise AssertionError(f"{'/'.join(parts)} is in no room of docs/architecture.md")


def imported_names(path: Path) -> set[str]:
    """Returns the dotted names of all imports of a file, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_its_left(path: Path) -> None:
    room = room_of(module_of(path))
    for name in imported_names(path):
        top, *parts = name.split(".")
        if top == "esmm_spark" and parts:
            other = room_of(tuple(parts))
            assert other == room or other in ALLOWED[room], f"{path.relative_to(ROOT)} imports {name}"
        if top in LIBRARIES:
            rooms = LIBRARIES[top]
            assert room in rooms or room.split(".")[0] in rooms, f"{path.relative_to(ROOT)} imports {name}"


def test_no_room_imports_one_that_imports_it() -> None:
    for room, others in ALLOWED.items():
        for other in others:
            assert room not in ALLOWED[other], f"{room} and {other} import each other"


@pytest.mark.parametrize("folder", ["esmm_spark", "bench", "tests", "scripts", "jobs"])
def test_no_folder_is_too_full_and_no_file_too_long(folder: str) -> None:
    for inner in [ROOT / folder, *(path for path in (ROOT / folder).rglob("*") if path.is_dir())]:
        names = sorted(path.name for path in inner.glob("*.py"))
        limit = MOST_FILES if folder == "esmm_spark" else 24
        assert len(names) <= limit, f"{inner.relative_to(ROOT)} holds {len(names)} files"
        for name in names:
            lines = len((inner / name).read_text(encoding="utf-8").splitlines())
            assert folder == "tests" or lines <= MOST_LINES, (
                f"{inner.relative_to(ROOT)}/{name}: {lines} lines"
            )


def test_the_table_of_architecture_has_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`([\w/]+)/`", "\n".join(re.findall(r"^\| (.*?) \|", page, re.MULTILINE))))
    assert told == {room.replace(".", "/") for room in ALLOWED} - {"train"}


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
