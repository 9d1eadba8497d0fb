"""Event logs."""

from bench.results import StageResult
from bench.workspace import Workspace


def run(workspace: Workspace) -> StageResult:
    """Measures nothing yet."""
    return StageResult()
