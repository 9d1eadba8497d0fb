"""Each network with the loader, against the same one in plain flat PyTorch, and what its products take."""

from bench.contenders import Contender, in_turns
from bench.measure import measured_worker
from bench.results import OURS, StageResult
from bench.workspace import Workspace, say

NETWORKS = ("mlp", "dcn", "mmoe", "ple", "aitm")
_ROUNDS = ("--rounds", "2")
_LEAST_OVER_FLAT = 10.0
# Of the rate that mlp, whose towers are one kernel, has per floating point operation of matrix products.
_LEAST_OF_MLP = 0.6
_HELD_AGAINST_MLP = ("dcn", "mmoe")


def run(workspace: Workspace) -> StageResult:
    """Measures Ali-CCP's shape, all networks in turns."""
    result = StageResult()
    config = str(workspace.grouped())
    contenders = []
    for network in NETWORKS:
        override = f"model.network={network}"
        ours = [config, override, *_ROUNDS]
        flat = [config, "grouped", override, *_ROUNDS]
        contenders += [
            Contender(f"{OURS}, {network}", "bench.workers.train", ours),
            Contender(_plain(network), "bench.workers.reference", flat),
        ]
    best = in_turns(workspace, result, "networks", contenders)
    for network in NETWORKS:
        ratio = best[f"{OURS}, {network}"] / best[_plain(network)]
        result.ask(f"{network} with loader / the same in plain flat PyTorch", ratio, _LEAST_OVER_FLAT)
    say("networks: steps and their products")
    found, _ = measured_worker(
        "bench.workers.profile_networks", [config, *NETWORKS], workspace.log("networks-profile")
    )
    networks, sgemm_gflops = found["networks"], found["sgemm_gflops"]
    rates = {name: own["gflop_per_impression"] / own["step_s"] for name, own in networks.items()}
    for name, own in networks.items():
        share = own["product_s"] / own["step_s"]
        title = f"{OURS}, {name}: matrix products' share of a step"
        result.add(title, share, "of 1", **own)
        products = own["gflop_per_impression"] * found["batch_size"] / own["product_s"]
        result.add(f"{OURS}, {name}: their rate", products / sgemm_gflops, "of sgemm's")
        result.add(f"{OURS}, {name}: rate per matrix-product work", rates[name] / rates["mlp"], "of mlp's")
    for name in _HELD_AGAINST_MLP:
        text = f"{name}'s rate per unit of matrix-product work / mlp's"
        result.ask(text, rates[name] / rates["mlp"], _LEAST_OF_MLP)
    result.details["networks"] = found
    return result


def _plain(network: str) -> str:
    return f"plain PyTorch, flat, on our own batches, {network}"
