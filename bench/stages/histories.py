"""A step with attention to histories of 100 and 1,000 values against the same histories pooled, and flat."""

from bench.measure import measured_worker
from bench.results import StageResult
from bench.workspace import Workspace, say

_NAMES = {"din": "din", "mlp": "mlp, the history pooled", "flat": "din in plain PyTorch, flat"}
# What is measured: network and values of a history. Flat, 1,000 values would take 10 GB.
_SHAPES = (("din", 100), ("mlp", 100), ("flat", 100), ("din", 1000), ("mlp", 1000))
_ROUNDS = 2
# Beyond pooled, for 4,060 impressions and 1,000 values, whose pairs' hidden units alone would be 560 MiB.
_MOST_MIB = 150.0


def run(workspace: Workspace) -> StageResult:
    """Measures each in a process of its own, in turns; the best round counts."""
    result = StageResult()
    best: dict[tuple[str, int], dict[str, float]] = {}
    for round_ in range(_ROUNDS):
        for network, values in _SHAPES:
            say(f"histories: {network}, {values} values, round {round_ + 1} of {_ROUNDS}")
            log = workspace.log(f"histories-{network}-{values}")
            found, _ = measured_worker("bench.workers.histories", [network, str(values)], log)
            shape = network, values
            if shape not in best or found["ms_per_step"] < best[shape]["ms_per_step"]:
                best[shape] = found
    for (network, values), found in best.items():
        result.add(f"{_NAMES[network]}, {values:,} values", found["ms_per_step"], "ms a step", **found)
    for network, values in _SHAPES:
        pairs = best[network, values]["impressions"] * values
        if network == "din":
            rate = pairs / best[network, values]["ms_per_step"] / 1000
            result.add(f"din, {values:,} values: pairs", rate, "million/s")
    for network, values in _SHAPES:
        memory = best[network, values]["mib"]
        result.add(f"{_NAMES[network]}, {values:,} values: memory of the steps", memory, "MiB")
    more = best["din", 1000]["mib"] - best["mlp", 1000]["mib"]
    result.ask("din's memory beyond pooled, MiB, 1,000 values", more, _MOST_MIB, at_least=False)
    return result
