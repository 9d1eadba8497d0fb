"""Each network with the loader, against the same one in plain flat PyTorch, and what its products take."""

from pathlib import Path

from bench.contenders import Contender, in_turns
from bench.measure import ROOT, measured_worker
from bench.results import OURS, StageResult
from bench.workspace import Workspace, say
from esmm_spark.contracts.config_file import load_config

NETWORKS = ("mlp", "dcn", "mmoe", "ple", "aitm", "din")
_ROUNDS = ("--rounds", "2")
_MOST_STEPS = ("--max-steps", "60")
_FLAT_BATCHES = ("--batches", "4")
# din attends to categories with the impression's.
_HISTORY, _TARGET, _MOST_VALUES = "109_14", "206", 50
# What is computed of each impression, or pair, whatever its group: no group can share it.
_LIMITS = {
    "dcn": "of its three wide products only the first cross layer's has a context's share that is computed "
    "once; the second multiplies what the first made of context and impression together",
    "ple": "its second layer reads what the first made of context and impression together",
    "din": "three quarters of the attention's first layer are computed once per group or impression, but the "
    "product term, the activation and the second layer for each pair of an impression and a value",
}
_LEAST_OVER_FLAT = 10.0
# Of the rate that mlp, whose towers are one kernel, has per floating point operation of matrix products.
_LEAST_OF_MLP = 0.6
_HELD_AGAINST_MLP = ("dcn", "mmoe")


def run(workspace: Workspace) -> StageResult:
    """Measures Ali-CCP's shape, all networks in turns."""
    result = StageResult()
    grouped = str(workspace.grouped())
    configs = dict.fromkeys(NETWORKS, grouped) | {"din": str(_with_history(workspace))}
    contenders = []
    for network, config in configs.items():
        override = f"model.network={network}"
        ours = [config, override, *_ROUNDS, *_MOST_STEPS]
        flat = [config, "grouped", override, *_ROUNDS, *_FLAT_BATCHES]
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
        "bench.workers.profile_networks",
        [f"{network}={config}" for network, config in configs.items()],
        workspace.log("networks-profile"),
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
    result.details["notes"] = [f"What limits {name}: {text}." for name, text in _LIMITS.items()]
    return result


def _with_history(workspace: Workspace) -> Path:
    """Returns the config of a dataset in Ali-CCP's shape, one of its histories value by value."""
    content = load_config(str(ROOT / "conf" / "aliccp.yaml")).features.model_dump(mode="json")
    for field in content["fields"]:
        if field["name"] == _HISTORY:
            field |= {"table": _TARGET, "pooling": "none", "max_length": _MOST_VALUES}
    del content["tables"][_HISTORY]
    size = workspace.impressions
    # din alone takes a history that isn't pooled.
    changes = {"features": content, "model": {"network": "din"}}
    return workspace.preprocessed(workspace.config(f"history-{size}", workspace.raw(size), changes))


def _plain(network: str) -> str:
    return f"plain PyTorch, flat, on our own batches, {network}"
