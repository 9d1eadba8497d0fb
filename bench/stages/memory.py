"""What preprocessing takes in the 4 GB driver of conf/spark: Ali-CCP's raw files, and one flat table."""

from pathlib import Path

from bench.measure import measured
from bench.results import OURS, StageResult
from bench.stages.tables import FORMATS, table_config
from bench.workspace import PREPROCESS, Workspace, say

_DRIVER_MIB = 4096.0


def run(workspace: Workspace, impressions: int) -> StageResult:
    """Measures the whole command on `impressions` impressions of each."""
    result = StageResult()
    config = workspace.config("preprocess-memory", workspace.raw(impressions))
    _measure(workspace, result, OURS, config, impressions)
    name = f"{OURS}, {FORMATS[0]} table"
    _measure(workspace, result, name, table_config(workspace, impressions, FORMATS[0]), impressions)
    return result


def _measure(workspace: Workspace, result: StageResult, name: str, config: Path, impressions: int) -> None:
    say(f"memory: {config.stem}, {impressions:,} impressions")
    command = [PREPROCESS[0], "--driver-memory", "4g", *PREPROCESS[1:], "--config", str(config)]
    usage = measured(command, workspace.log(f"memory-{config.stem}"))
    result.add(name, usage.peak_mib, "MiB", **usage.as_details(), impressions=impressions)
    text = f"{name}, {impressions:,}: memory of all processes with a driver of 4 GB, MiB"
    result.ask(text, usage.peak_mib, _DRIVER_MIB, at_least=False)
