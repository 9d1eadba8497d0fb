"""Files of `scripts/` as modules: tests call what they hold."""

import importlib.util
from types import ModuleType

from tests.repository import ROOT


def script_named(name: str) -> ModuleType:
    """Returns a script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
