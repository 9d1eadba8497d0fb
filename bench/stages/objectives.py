"""A step of each preset, and of ESMM over longer funnels, against a step of ESMM."""

from bench.measure import measured_worker
from bench.results import StageResult
from bench.workspace import Workspace, say

# K towers alike cost K / 2 of ESMM's two, and a tenth for what terms and heads cost beside them.
_MOST_OVER_TOWERS = 1.1


def run(workspace: Workspace) -> StageResult:
    """Measures steps on batches in memory, all presets in turns."""
    result = StageResult()
    say("objectives: a step of each preset")
    found, _ = measured_worker(
        "bench.workers.objectives", [str(workspace.grouped())], workspace.log("objectives")
    )
    presets = found["presets"]
    esmm = presets["esmm"]["ms_per_step"]
    for name, preset in presets.items():
        result.add(f"{name}, {preset['heads']} towers", preset["ms_per_step"], "ms a step", **preset)
    for name, preset in presets.items():
        if preset["embeddings"] == 1 and name != "esmm":
            towers = preset["heads"] / presets["esmm"]["heads"]
            text = f"a step of {name} / a step of ESMM x {preset['heads']} towers / 2"
            result.ask(text, preset["ms_per_step"] / (esmm * towers), _MOST_OVER_TOWERS, at_least=False)
    return result
