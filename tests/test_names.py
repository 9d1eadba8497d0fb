"""A public name means one thing in the package, and tasks are known by name in few places."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.repository import ROOT

PACKAGE = ROOT / "esmm_spark"
# Names that several modules define because each is one case of the same thing.
ONE_MEANING = {
    "delete": "of a file system and a path in files/moving.py, of a URI in files/storage.py",
    "move": "of a file system and two paths in files/moving.py, of two URIs in files/storage.py",
    "section": "what every file of evaluation/report/sections/ has to define",
}


def test_no_public_name_is_defined_twice() -> None:
    definitions, aliases = defaultdict(list), defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                definitions[node.name].append(str(path.relative_to(PACKAGE)))
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                aliases[node.targets[0].id].append(str(path.relative_to(PACKAGE)))
    twice = {name: [*where, *aliases[name]] for name, where in definitions.items()}
    twice = {name: where for name, where in twice.items() if len(where) > 1}
    unknown = {name: where for name, where in twice.items() if name not in ONE_MEANING}
    assert not unknown, f"rename one of each: {unknown}"
    gone = ONE_MEANING.keys() - twice.keys()
    assert not gone, f"no longer defined twice, take it from the list: {gone}"


# What may know the default tasks by name: their contract and score columns, the formats that bring them, the
# simulator, and the report's words for them.
KNOWS_TASKS = (
    "contracts/tasks.py",
    "contracts/schemas/columns.py",
    "contracts/schemas/task_columns.py",
    "contracts/event_config.py",
    "contracts/funnel.py",
    "simulation/",
    "evaluation/report/paper_words.py",
    "model/directory.py",  # reads models of before, whose towers were called after them
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


@pytest.mark.parametrize(
    "source", ["x = 'ctcvr'", "click = 1", "def f(conversion): pass", "x.pctr", "f'{x}_auc_clicks'"]
)
def test_a_task_by_name_is_found(source: str) -> None:
    assert any(TASK_NAME.search(text) for _, text in names_and_texts(source))


@pytest.mark.parametrize("source", ["'''Example: pctr.'''", "x = 'electric'", "overclicking = 1.0"])
def test_what_is_no_task_is_left_alone(source: str) -> None:
    assert not [text for _, text in names_and_texts(source) if TASK_NAME.search(text)]
