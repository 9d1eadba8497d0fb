"""Two runs on one target, at random offsets: one whole result and one refusal, or two that didn't meet.

`make test-stress` runs it; `ESMM_STRESS_SEED` repeats one that failed.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from esmm_spark.contracts.manifest import Manifest
from esmm_spark.contracts.schemas.layout import DAY_PARTITION, EXAMPLES, LABELS, MARKER, REJECTS
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.model.directory import find_model, read_info
from esmm_spark.samples.counting import require_counted
from esmm_spark.scoring.partition import find_record
from tests.events import small_logs
from tests.repository import ROOT
from tests.run_on_request import DAY, scoring_config, write_inputs
from tests.samples.raw_lines import config_for
from tests.scoring.random_model import write_model
from tests.synthetic_examples import write_small_dataset

NUM_PAIRS = 30
# About the time that a run takes: most pairs meet.
OFFSET_S = {"preprocess": 2.4, "events": 5.0, "score": 1.5, "train": 1.0}

Process = subprocess.Popen[str]


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    """Two processes that run what they are told to."""
    command = [sys.executable, "-m", "tests.run_on_request"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    yield both
    for process in both:
        process.communicate()


@pytest.mark.stress
@pytest.mark.spark
@pytest.mark.timeout(3600)
def test_two_runs_on_one_target_end_in_one_whole_result_and_one_refusal(
    tmp_path: Path, processes: list[Process]
) -> None:
    seed = int(os.environ.get("ESMM_STRESS_SEED") or random.randrange(1 << 32))
    print(f"ESMM_STRESS_SEED={seed}")
    offsets = random.Random(seed)
    write_inputs(tmp_path)
    write_small_dataset(tmp_path / "examples" / "dataset")
    write_model(scoring_config(tmp_path))
    outcomes: Counter[str] = Counter()
    for number in range(NUM_PAIRS):
        kind = list(OFFSET_S)[number % len(OFFSET_S)]
        if kind == "train":
            # A finished run is not trained again.
            storage.delete(str(tmp_path / "examples" / "model"))
        ends = run_both(processes, kind, tmp_path, offsets.uniform(0, OFFSET_S[kind]))
        require_whole(kind, tmp_path)
        codes = sorted(end["code"] for end in ends)
        assert codes in ([0, 0], [0, 2]), (seed, kind, ends)
        for end in ends:
            assert end["code"] == 0 or " is being written by process " in end["error"], (seed, kind, end)
        outcomes[f"{kind} {codes}"] += 1
        print(f"pair {number + 1}: {kind} {codes}", flush=True)
    print(outcomes)
    assert sum(times for outcome, times in outcomes.items() if outcome.endswith("[0, 2]")) >= NUM_PAIRS // 3


def run_both(processes: list[Process], kind: str, folder: Path, offset_s: float) -> list[dict[str, Any]]:
    """Starts one run `offset_s` after the other; returns how they ended."""
    start = time.monotonic() + 0.1
    for process, at in zip(processes, (start, start + offset_s), strict=True):
        assert process.stdin is not None
        print(json.dumps({"kind": kind, "folder": str(folder), "at": at}), file=process.stdin, flush=True)
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers.append(json.loads(process.stdout.readline()))
    return answers


def require_whole(kind: str, folder: Path) -> None:
    """Fails unless what lies on disk is what its manifest says, and nothing else."""
    if kind == "preprocess":
        dataset = config_for(folder, {}, logs={"splits": {"test": NO_FILES}}).paths.dataset
        manifest = read_manifest(dataset)
        assert manifest.partitions["split=test"].impressions == 3000
        require_rows(dataset, manifest, REJECTS)
        litter = Path(dataset).parent.iterdir()
        assert [path.name for path in litter] == ["dataset"]
    elif kind == "events":
        dataset = small_logs.config(folder / "events").paths.dataset
        manifest = read_manifest(dataset)
        assert manifest.partitions[f"ds={DAY}"].impressions == 80
        require_rows(dataset, manifest, f"{REJECTS}/ds={DAY}", f"{EXAMPLES}/ds={DAY}/{DAY_PARTITION}")
        assert num_rows(Path(dataset, LABELS, f"ds={DAY}")) == 80
        hidden = [name for name, _ in storage.list_files(dataset) if ".staging" in name or ".lease" in name]
        assert hidden == []
    elif kind == "score":
        scores = folder / "examples" / "scores" / "split=validation"
        record = find_record(str(scores))
        assert record is not None
        assert num_rows(scores) == record.impressions > 0
        assert [path.name for path in scores.parent.iterdir()] == ["split=validation"]
    else:
        versions = folder / "examples" / "model" / "versions"
        assert len(list(versions.iterdir())) == 1
        read_info(find_model(str(versions.parent)))


def require_rows(dataset: str, manifest: Manifest, rejects: str, *more: str) -> None:
    """Fails unless the files hold what the manifest says, and there are no others among the examples."""
    files = [f"{rejects}/{name}" for name, _ in storage.list_files(f"{dataset}/{rejects}", ".parquet")]
    paths = require_counted(dataset, manifest.partitions.values(), files, manifest.sources)
    found = {f"{EXAMPLES}/{name}" for name, _ in storage.list_files(f"{dataset}/{EXAMPLES}")} - {*more}
    assert {name for name in found if not name.endswith(MARKER)} == set(paths)


def num_rows(folder: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))


NO_FILES = {"skeleton": "none", "common_features": "none"}
