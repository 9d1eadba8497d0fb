"""A public class name means one thing in the package."""

import ast
from collections import defaultdict

from tests.repository import ROOT

PACKAGE = ROOT / "esmm_spark"
# What still stands for two things; this list only gets shorter.
TWICE = {"Section"}


def test_no_public_class_name_is_defined_twice() -> None:
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(PACKAGE)))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert twice.keys() <= TWICE, f"rename one of each: {twice}"
    assert twice.keys() >= TWICE, f"no longer defined twice, take it from the list: {TWICE - twice.keys()}"
