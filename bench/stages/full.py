"""The whole pipeline at half of Ali-CCP's size: every command from its start to its exit, once, in turn.

42 million impressions of the `aliccp` preset, half of them held out: preprocess both, train an epoch, score
and evaluate the test split with the truth and 200 resamples. It takes a quarter of an hour and 45 GB of disk,
so that it runs only when it is asked for.
"""

import json
import shutil
from pathlib import Path

from bench.measure import FailedCommandError
from bench.results import OURS, StageResult
from bench.workspace import EVALUATE, PREPROCESS, SCORE, TRAIN, Workspace, say

IMPRESSIONS = 42_000_000
# Raw files, examples, scores, and Spark's shuffle of the raw lines beside them.
_BYTES_PER_IMPRESSION = 1_050
_SECONDS, _MEMORY_MIB = 60.0, 4096.0


def run(workspace: Workspace, impressions: int = IMPRESSIONS) -> StageResult:
    """Runs simulate's four successors on about `impressions` impressions of both splits.

    Raises:
        FailedCommandError: a command failed, or the disk is too small for all of it.
    """
    _require_disk(workspace.root, impressions)
    raw = workspace.raw(impressions)
    folder = workspace.clear(f"full-{impressions}")
    options = ["--config", "conf/simulated.yaml", *_paths(folder), *_inputs(raw)]
    result = StageResult()
    for name, command, arguments in (
        ("preprocess", PREPROCESS, []),
        ("train, an epoch", TRAIN, ["train.epochs=1"]),
        ("score", SCORE, []),
        ("evaluate", EVALUATE, []),
    ):
        say(f"full: {name}")
        usage = workspace.run(f"full-{name}", [*command, *options, *arguments])
        done = _impressions(folder, name)
        details = {**usage.as_details(), "impressions": done}
        result.add(f"{OURS}, {name} of {done:,}", usage.wall_s, "s", **details)
        if name == "evaluate":
            result.ask(f"seconds, evaluating {done:,}", usage.wall_s, _SECONDS, at_least=False)
            text = f"peak memory, evaluating {done:,}, MiB"
            result.ask(text, usage.peak_mib, _MEMORY_MIB, at_least=False)
    return result


def _require_disk(root: Path, impressions: int) -> None:
    needed = impressions * _BYTES_PER_IMPRESSION
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise FailedCommandError(
            f"{root} has {free / 1e9:.0f} GB free, {impressions:,} impressions need {needed / 1e9:.0f} GB: "
            "give another folder (--work) or fewer (--full-impressions)"
        )


def _paths(folder: Path) -> list[str]:
    return [f"paths.{part}={folder / part}" for part in ("dataset", "model", "scores", "report")]


def _inputs(raw: Path) -> list[str]:
    return [
        f"evaluate.truth={raw / 'truth.parquet'}",
        *(
            f"logs.splits.{split}.{kind}={raw / name}_{split}"
            for split in ("train", "test")
            for kind, name in (("skeleton", "sample_skeleton"), ("common_features", "common_features"))
        ),
    ]


def _impressions(folder: Path, name: str) -> int:
    """Returns how many impressions a step worked on, as the record of its run says."""
    records = {
        "preprocess": folder / "dataset.run.json",
        "train, an epoch": folder / "model.run.json",
        "score": folder / "scores.runs" / "split=test.json",
        "evaluate": folder / "report.run.json",
    }
    record = json.loads(records[name].read_text(encoding="utf-8"))
    # preprocess reads the lines of contexts, too.
    return int(record["rows_out"] if name == "preprocess" else record["rows_in"])
