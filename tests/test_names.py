"""A public name means one thing in the package, and tasks are known by name in few places."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

from esmm_spark.logs.formats import FORMATS
from tests.repository import ROOT

PACKAGE = ROOT / "esmm_spark"
# Names that several modules define because each is one case of the same thing.
ONE_MEANING = {
    "delete": "of a file system and a path in files/moving.py, of a URI in files/storage.py",
    "move": "of a file system and two paths in files/moving.py, of two URIs in files/storage.py",
    "section": "what every file of evaluation/report/sections/ and profile/sections/ has to define",
    "kernel": "compiles a kernel, kept until a file of its room's kernels changes",
    "inlined_kernel": "the same of a kernel that becomes part of its callers",
}
ARRAY_TYPES = "runtime/arrays.py"


def public_names(source: str) -> Iterator[tuple[str, str]]:
    """Yields what a module defines for others, functions, classes, constants and aliases, and its value."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found = [(node.name, "")]
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            found = [(name.id, ast.unparse(node.value)) for name in names if isinstance(name.ctx, ast.Store)]
        else:
            continue
        yield from ((name, value) for name, value in found if not name.startswith("_"))


def names_of_package() -> Iterator[tuple[str, str, str]]:
    """Yields file, name and value of each public name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for name, value in public_names(path.read_text(encoding="utf-8")):
            yield path.relative_to(PACKAGE).as_posix(), name, value


def test_no_public_name_is_defined_twice() -> None:
    where = defaultdict(list)
    for file, name, _ in names_of_package():
        where[name].append(file)
    twice = {name: files for name, files in where.items() if len(files) > 1}
    unknown = {name: files for name, files in twice.items() if name not in ONE_MEANING}
    assert not unknown, f"rename one of each: {unknown}"
    gone = ONE_MEANING.keys() - twice.keys()
    assert not gone, f"no longer defined twice, take it from the list: {gone}"


def test_arrays_of_one_type_have_one_name() -> None:
    aliases = defaultdict(list)
    for file, name, value in names_of_package():
        if re.match(r"(npt\.)?NDArray\[np\.", value):
            aliases[value.removeprefix("npt.")].append(f"{file}: {name}")
    twice = {kind: names for kind, names in aliases.items() if len(names) > 1}
    assert not twice, f"take it from {ARRAY_TYPES}: {twice}"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("A = B = 1", ["A", "B"]),
        ("A, (B, _c) = 1, (2, 3)", ["A", "B"]),
        ("A: Final = 1", ["A"]),
        ("def f(): A = 1", ["f"]),
        ("A.b = 1", []),
    ],
)
def test_constants_and_aliases_are_public_names(source: str, names: list[str]) -> None:
    assert [name for name, _ in public_names(source)] == names


# What may know the default tasks by name: their contract and score columns, the formats that bring them, the
# simulator, and the report's words for them.
KNOWS_TASKS = (
    "contracts/tasks.py",
    "contracts/schemas/columns.py",
    "contracts/schemas/task_columns.py",
    "contracts/event_config.py",
    "contracts/events/history.py",
    "contracts/funnel.py",
    "simulation/",
    "evaluation/report/paper_words.py",
    "profile/guesses/names.py",  # what logs call them
    "model/directory.py",  # reads models of before, whose towers were called after them
    # A format may have columns of these names.
    *(reader.__module__.removeprefix("esmm_spark.").replace(".", "/") + ".py" for reader in FORMATS.values()),
)
TASK_NAME = re.compile(
    r"(?<![a-z])(clicks?|clicked|conversions?|converted|p?ctr|p?cvr|p?ctcvr|repurchases?)(?![a-z])",
    re.IGNORECASE,
)


def names_and_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and text of each identifier and each literal of a module; docstrings may have examples."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def test_no_other_place_knows_the_default_tasks_by_name() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(KNOWS_TASKS):
            texts = names_and_texts(path.read_text(encoding="utf-8"))
            found += [f"{name}:{line}: {text}" for line, text in texts if TASK_NAME.search(text)]
    for path in PACKAGE.rglob("*.html"):
        found += [f"{path.name}: {hit}" for hit in TASK_NAME.findall(path.read_text(encoding="utf-8"))]
    assert not found, "take it from the tasks of the config (contracts/tasks.py):\n" + "\n".join(found)


# Rooms and files that know of no arena: a row there is an impression, a line, an entry or a record
# (docs/glossary.md). Row groups are Parquet's, and libraries have names of their own.
WITHOUT_ROWS = (
    *(
        "contracts/events",
        "contracts/tables",
        "evaluation",
        "events",
        "logs",
        "pages",
        "reading",
        "simulation",
    ),
    *("spark", "tables"),
)
ROW = re.compile(r"(?<![A-Za-z])rows?(?![a-z])", re.IGNORECASE)
NOT_OURS = re.compile(
    r"row[_ ]?groups?|\.num_rows|\.add_row|F\.row_number|_metadata\.row_index"
    r"|(?-i:\bRow\b)|\"row\"",
    re.IGNORECASE,
)


def test_a_row_is_the_arenas_alone() -> None:
    found = []
    for room in WITHOUT_ROWS:
        for path in sorted((PACKAGE / room).rglob("*")):
            if path.suffix in (".py", ".html"):
                lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
                hits = [number for number, line in lines if ROW.search(NOT_OURS.sub("", line))]
                found += [f"{path.relative_to(PACKAGE)}:{number}" for number in hits]
    assert not found, f"impressions, lines, records or entries (docs/glossary.md): {found}"


@pytest.mark.parametrize(
    "source", ["x = 'ctcvr'", "click = 1", "def f(conversion): pass", "x.pctr", "f'{x}_auc_clicks'"]
)
def test_a_task_by_name_is_found(source: str) -> None:
    assert any(TASK_NAME.search(text) for _, text in names_and_texts(source))


@pytest.mark.parametrize("source", ["'''Example: pctr.'''", "x = 'electric'", "overclicking = 1.0"])
def test_what_is_no_task_is_left_alone(source: str) -> None:
    assert not [text for _, text in names_and_texts(source) if TASK_NAME.search(text)]
