"""The loader alone, against pyarrow reading the same files into the same batches."""

from bench.measure import measured_worker
from bench.results import OURS, StageResult
from bench.workspace import Workspace, say

_UNIT = "impressions/s"


def run(workspace: Workspace) -> StageResult:
    """Measures both in turns in one process; best rounds."""
    result = StageResult()
    config = workspace.grouped()
    say("load: the loader and pyarrow in turns")
    found, usage = measured_worker("bench.workers.load", [str(config)], workspace.log("load"))
    rates = {name: max(values) for name, values in found["rates"].items()}
    result.add(OURS, rates["loader"], _UNIT, rounds=found["rates"]["loader"], peak_mib=usage.peak_mib)
    result.add("pyarrow", rates["pyarrow"], _UNIT, rounds=found["rates"]["pyarrow"])
    result.ask("loader / pyarrow", rates["loader"] / rates["pyarrow"], 0.5)
    return result
