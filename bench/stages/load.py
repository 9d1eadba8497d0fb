"""The loader alone, by both readers, against pyarrow reading the same files into the same batches."""

from bench.measure import measured_worker
from bench.results import OURS, StageResult
from bench.workspace import Workspace, say

_UNIT = "impressions/s"


def run(workspace: Workspace) -> StageResult:
    """Measures all of them in turns in one process; best rounds."""
    result = StageResult()
    config = workspace.grouped()
    say("load: the loader's readers and pyarrow in turns")
    found, usage = measured_worker("bench.workers.load", [str(config)], workspace.log("load"))
    rates = {name: max(values) for name, values in found["rates"].items()}
    rounds = found["rates"]
    result.add(OURS, rates["petastorm"], _UNIT, rounds=rounds["petastorm"], peak_mib=usage.peak_mib)
    result.add(f"{OURS}, train.reader=arrow", rates["arrow"], _UNIT, rounds=rounds["arrow"])
    result.add("pyarrow", rates["pyarrow"], _UNIT, rounds=found["rates"]["pyarrow"])
    result.ask("loader / pyarrow", rates["petastorm"] / rates["pyarrow"], 0.5)
    return result
