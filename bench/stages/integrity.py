"""What it costs to compare checksums: of the examples that are loaded, and of a model that is opened."""

from bench.measure import measured_worker
from bench.results import OURS, StageResult
from bench.workspace import Workspace, say


def run(workspace: Workspace) -> StageResult:
    """Measures checksums by themselves, and loading with and without them, in turns in one process."""
    result = StageResult()
    config = workspace.trained(workspace.grouped())
    say("integrity: loading and opening a model, with and without checksums")
    found, _ = measured_worker("bench.workers.integrity", [str(config)], workspace.log("integrity"))
    rates = {name: max(values) for name, values in found["rates"].items()}
    for name, rate in rates.items():
        rounds = found["rates"][name]
        result.add(f"{OURS}, loader {name} checksums", rate, "impressions/s", rounds=rounds)
    speed = found["bytes"] / found["checksums_s"]
    result.add(f"{OURS}, checksums of examples", speed / 1e9, "GB/s", bytes=found["bytes"])
    speed = found["model_bytes"] / found["model_checksums_s"]
    result.add(f"{OURS}, checksums of a model", speed / 1e9, "GB/s", bytes=found["model_bytes"])
    result.add(f"{OURS}, a scorer's start", found["scorer_start_s"], "s")
    # The difference of two rates is smaller than their noise; the checksums' own time isn't.
    loading_s = found["impressions"] / rates["with"]
    result.ask("checksums' share of loading", found["checksums_s"] / loading_s, 0.02, at_least=False)
    share = found["model_checksums_s"] / found["scorer_start_s"]
    result.ask("checksums' share of a scorer's start", share, 0.02, at_least=False)
    return result
