"""Training: with and without the loader, against the reference, the peers and the machine's limit."""

from pathlib import Path

from bench.contenders import Contender, in_turns
from bench.measure import measured_worker
from bench.peers.venv import peers_python
from bench.results import OURS, StageResult
from bench.workspace import TRAIN, Workspace, say
from esmm_spark.contracts.config_file import load_config

# The peers' speed doesn't depend on how many impressions they see: enough for some seconds an epoch.
_PEER_SINGLE_VALUED = 100_000
_PEER_SEQUENCES = 20_000
_PEERS = {"torch-rechub": "torch_rechub_esmm", "DeepCTR-Torch": "deepctr_esmm"}
_REFERENCES = {
    "shuffled": "plain PyTorch, flat rows shuffled (reference)",
    "grouped": "plain PyTorch, flat, on our own batches (reference)",
}
_SPARE_MIB = 1.5 * 1024
_ROUNDS = ("--rounds", "2")
_MODES = ("loader", "memory", "validation")


def run(workspace: Workspace) -> StageResult:
    """Measures Ali-CCP's shape, the single-valued shape, a profile of a step, and a run's memory."""
    result = StageResult()
    grouped, single = workspace.grouped(), workspace.single_valued()
    bfloat16 = f"{OURS}, train.bf16"
    contenders = [
        Contender(OURS, "bench.workers.train", [str(grouped), *_ROUNDS, "--modes", *_MODES]),
        Contender(bfloat16, "bench.workers.train", [str(grouped), "train.bf16=true", *_ROUNDS]),
        *(
            Contender(title, "bench.workers.reference", [str(grouped), order, *_ROUNDS])
            for order, title in _REFERENCES.items()
        ),
    ]
    peers = _peers(workspace, grouped, _PEER_SEQUENCES, "all fields, same tokens, no weights")
    best = in_turns(workspace, result, "train, grouped", [*contenders, *peers])
    for name, kind in ((OURS, ""), (bfloat16, " in bfloat16")):
        for order, title in _REFERENCES.items():
            shape = "flat rows shuffled" if order == "shuffled" else "our own batches"
            result.ask(f"training{kind} with loader / reference, {shape}", best[name] / best[title], 40.0)
    fastest = max(best[peer.title] for peer in peers)
    result.ask("training with loader / fastest peer on the same tokens", best[OURS] / fastest, 25.0)
    result.ask(
        "the loader's share of training",
        1 - best[OURS] / best[f"{OURS}, batches in memory"],
        0.05,
        at_least=False,
    )
    validation = best[f"{OURS}, a validation pass"]
    result.ask("a validation pass / training with loader", validation / best[OURS], 2.0)
    own = f"{OURS}, single-valued"
    peers = _peers(workspace, single, _PEER_SINGLE_VALUED, "single-valued")
    contender = Contender(own, "bench.workers.train", [str(single), *_ROUNDS])
    best = in_turns(workspace, result, "train, single-valued", [contender, *peers])
    fastest = max(best[peer.title] for peer in peers)
    result.ask("single-valued, with loader / fastest peer", best[own] / fastest, 3.0)
    _profile(workspace, result, grouped)
    _memory(workspace, result, grouped)
    return result


def _peers(workspace: Workspace, config: Path, impressions: int, shape: str) -> list[Contender]:
    """Returns the peers, on the first impressions of a config's dataset."""
    inputs = workspace.root / "peers" / f"{config.stem}.npz"
    measured_worker(
        "bench.workers.flatten",
        [str(config), str(inputs), "--impressions", str(min(impressions, workspace.impressions))],
        workspace.log(f"flatten-{config.stem}"),
    )
    arguments = [str(inputs), "--batch-size", str(load_config(str(config)).train.batch_size), *_ROUNDS]
    python = peers_python(workspace.root)
    return [
        Contender(f"{name}, {shape}", f"bench.peers.{module}", arguments, python)
        for name, module in _PEERS.items()
    ]


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
