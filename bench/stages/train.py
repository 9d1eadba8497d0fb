"""Training: with and without the loader, against the reference, the peers and the machine's limit."""

from pathlib import Path

from bench.measure import measured_worker
from bench.peers.venv import peers_python
from bench.results import OURS, StageResult
from bench.workspace import TRAIN, Workspace, say
from esmm_spark.config_file import load_config

_UNIT = "impressions/s"
# The peers' speed doesn't depend on how many impressions they see: enough for some seconds an epoch.
_PEER_SINGLE_VALUED = 100_000
_PEER_SEQUENCES = 20_000
_PEERS = {"torch-rechub": "torch_rechub_esmm", "DeepCTR-Torch": "deepctr_esmm"}
_REFERENCES = {
    "shuffled": "plain PyTorch, flat rows shuffled (reference)",
    "grouped": "plain PyTorch, flat, on our own batches (reference)",
}
_SPARE_MIB = 1.5 * 1024


def run(workspace: Workspace) -> StageResult:
    """Measures Ali-CCP's shape, the single-valued shape, a profile of a step, and a run's memory."""
    result = StageResult()
    grouped = workspace.grouped()
    say("train: Ali-CCP's shape, with the loader and without in turns")
    ours, _ = measured_worker("bench.workers.train", [str(grouped)], workspace.log("train"))
    with_loader, in_memory = (max(ours["rates"][mode]) for mode in ("loader", "memory"))
    result.add(OURS, with_loader, _UNIT, **ours)
    result.add(f"{OURS}, batches in memory", in_memory, _UNIT)
    say("train: the same with train.bf16")
    halves, _ = measured_worker(
        "bench.workers.train", [str(grouped), "train.bf16=true"], workspace.log("train-bf16")
    )
    halves_with_loader = max(halves["rates"]["loader"])
    result.add(f"{OURS}, train.bf16", halves_with_loader, _UNIT, **halves)
    result.add(f"{OURS}, train.bf16, batches in memory", max(halves["rates"]["memory"]), _UNIT)
    say("train: the reference")
    reference = {}
    for order, title in _REFERENCES.items():
        found, _ = measured_worker(
            "bench.workers.reference", [str(grouped), order], workspace.log(f"train-reference-{order}")
        )
        reference[order] = max(found["rates"])
        result.add(title, reference[order], _UNIT, **found)
    flattened = _peers(workspace, result, grouped, _PEER_SEQUENCES, "all fields, same tokens, no weights")
    single = workspace.single_valued()
    say("train: single-valued fields, no groups")
    ours, _ = measured_worker("bench.workers.train", [str(single)], workspace.log("train-single"))
    single_with_loader = max(ours["rates"]["loader"])
    result.add(f"{OURS}, single-valued", single_with_loader, _UNIT, **ours)
    peers = _peers(workspace, result, single, _PEER_SINGLE_VALUED, "single-valued")
    for title, rate in (("", with_loader), (" in bfloat16", halves_with_loader)):
        result.ask(
            f"training{title} with loader / reference, flat rows shuffled", rate / reference["shuffled"], 40.0
        )
        result.ask(
            f"training{title} with loader / reference on our own batches", rate / reference["grouped"], 40.0
        )
    result.ask("training with loader / fastest peer on the same tokens", with_loader / max(flattened), 25.0)
    result.ask("single-valued, with loader / fastest peer", single_with_loader / max(peers), 3.0)
    result.ask("the loader's share of training", 1 - with_loader / in_memory, 0.05, at_least=False)
    _profile(workspace, result, grouped)
    _memory(workspace, result, grouped)
    return result


def _peers(
    workspace: Workspace, result: StageResult, config: Path, impressions: int, shape: str
) -> list[float]:
    """Adds a figure for each peer on the impressions of a config's dataset; returns their rates."""
    inputs = workspace.root / "peers" / f"{config.stem}.npz"
    measured_worker(
        "bench.workers.flatten",
        [str(config), str(inputs), "--impressions", str(min(impressions, workspace.impressions))],
        workspace.log(f"flatten-{config.stem}"),
    )
    batch_size = str(load_config(str(config)).train.batch_size)
    rates = []
    for name, module in _PEERS.items():
        say(f"train: {name}, {shape}")
        found, usage = measured_worker(
            f"bench.peers.{module}",
            [str(inputs), "--batch-size", batch_size],
            workspace.log(f"train-{module}-{config.stem}"),
            python=peers_python(workspace.root),
        )
        rates.append(max(found["rates"]))
        result.add(f"{name}, {shape}", rates[-1], _UNIT, **found, peak_mib=usage.peak_mib)
    return rates


def _profile(workspace: Workspace, result: StageResult, config: Path) -> None:
    """Adds where a step's time goes, and the goals against the machine's limit."""
    say("train: a profile of a step")
    found, _ = measured_worker("bench.workers.profile_step", [str(config)], workspace.log("train-profile"))
    result.details["profile"] = found
    result.ask("matrix products' share of a step", found["product_share"], 0.6)
    result.ask(
        "rate of a step's matrix products / sgemm", found["product_gflops"] / found["sgemm_gflops"], 0.5
    )


def _memory(workspace: Workspace, result: StageResult, config: Path) -> None:
    """Adds the memory of a whole run of the command, checkpoints, validation and publishing included."""
    say("train: the memory of an epoch of the command")
    loaded = load_config(str(config))
    model = workspace.clear("train-memory")
    options = ["train.epochs=1", "train.resume=false", f"paths.model={model}"]
    usage = workspace.run("train-memory", [*TRAIN, "--config", str(config), *options])
    rows = loaded.features.num_rows
    arena_mib, state_mib = rows * loaded.model.dim * 4 / 2**20, rows * 4 / 2**20
    over_mib = usage.largest_process_mib - arena_mib - state_mib
    result.add(
        f"{OURS}, peak of an epoch of the command",
        usage.largest_process_mib,
        "MiB",
        **usage.as_details(),
        arena_mib=arena_mib,
        optimizer_state_mib=state_mib,
    )
    result.ask("training's peak less arena and state, MiB", over_mib, _SPARE_MIB, at_least=False)
