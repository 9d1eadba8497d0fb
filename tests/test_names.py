"""A public class or function name of a module means one thing in the package."""

import ast
from collections import defaultdict

from tests.repository import ROOT

PACKAGE = ROOT / "esmm_spark"
# Names that several modules define because each is one case of the same thing.
ONE_MEANING = {
    "delete": "of a file system and a path in files/moving.py, of a URI in files/storage.py",
    "move": "of a file system and two paths in files/moving.py, of two URIs in files/storage.py",
    "section": "what every file of evaluation/report/sections/ has to define",
}
# What still stands for two things; this list only gets shorter.
TWICE = {"allocating_kernel", "inlined_kernel", "kernel"}


def test_no_public_name_is_defined_twice() -> None:
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(PACKAGE)))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    known = TWICE | ONE_MEANING.keys()
    assert twice.keys() <= known, (
        f"rename one of each: { {name: twice[name] for name in twice.keys() - known} }"
    )
    assert twice.keys() >= known, f"no longer defined twice, take it from its list: {known - twice.keys()}"
