"""`jobs/score.py` as a user runs it, and as the out-of-memory killer ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.schemas.run_record import RunRecord
from tests.repository import ROOT
from tests.scoring.random_model import write_model
from tests.synthetic_examples import config_content, random_groups, write_dataset, write_partition

JOB = ROOT / "jobs" / "score.py"

# A network that says when it is used and goes on once it is let.
SLOW_NETWORK = """
import os, time
from pathlib import Path
from esmm_spark.model.networks.mlp import Mlp
class Slow(Mlp):
    def forward(self, context, impression, group_index):
        folder = Path(os.environ["SLOW_NETWORK"])
        (folder / "used").touch()
        while not (folder / "gate").exists():
            time.sleep(0.05)
        return super().forward(context, impression, group_index)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a dataset of one partition, config.yaml, and a model of SLOW_NETWORK."""
    (tmp_path / "slow_network.py").write_text(SLOW_NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "slow_network", raising=False)
    content = config_content(tmp_path)
    content["model"]["network"] = "slow_network:Slow"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    dataset = tmp_path / "dataset"
    counts = write_partition(dataset, "split=test", random_groups(40, seed=5), [[20], [20]])
    write_dataset(dataset, {"split=test": counts})
    write_model(Config.model_validate(content))
    return tmp_path


def start(folder: Path, launcher: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "SPARK_CONF_DIR": str(ROOT / "conf/spark"),
        "SLOW_NETWORK": str(folder),
    }
    # The tests' own session needs this one.
    environment.pop("PYSPARK_SUBMIT_ARGS", None)
    return subprocess.Popen(
        [launcher, str(JOB), "--config", str(folder / "config.yaml"), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, launcher: str, *arguments: str) -> tuple[int, str, str]:
    process = start(folder, launcher, *arguments)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def recorded(folder: Path) -> tuple[int, int | None, int | None, str | None]:
    """Returns exit code, rows in, rows out and error of the run's record."""
    record = RunRecord.model_validate_json((folder / "scores.runs" / "split=test.json").read_text())
    return record.exit_code, record.rows_in, record.rows_out, record.error


@pytest.mark.spark
@pytest.mark.slow
def test_a_killed_run_leaves_the_old_partition_whole_and_a_rerun_completes(folder: Path) -> None:
    partition = folder / "scores/split=test"
    partition.mkdir(parents=True)
    (partition / "part-0.parquet").write_bytes(b"old scores")
    (partition / "_SUCCESS").touch()
    before = content_of(partition)

    killed = start(folder, sys.executable)
    while not (folder / "used").exists():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.1)
    assert len(list(folder.glob("scores/.split=test.*.staging"))) == 1
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    assert content_of(partition) == before
    assert not (folder / "scores.runs").exists()

    (folder / "gate").touch()
    code, out, err = run(folder, "spark-submit")
    assert (code, "Traceback" in err) == (0, False), err
    num_impressions = pq.read_table(partition, partitioning=None).num_rows
    assert num_impressions == sum(len(group["click"]) for group in random_groups(40, seed=5))
    assert f"scored {num_impressions:,} impressions with model 000001-" in out
    assert [path.name for path in (folder / "scores").iterdir()] == ["split=test"]
    assert recorded(folder) == (0, num_impressions, num_impressions, None)

    complete = content_of(partition)
    code, out, _ = run(folder, sys.executable)
    assert code == 0
    assert "already: nothing to do (--force scores again)" in out
    assert recorded(folder) == (0, 0, 0, None)
    assert content_of(partition) == complete


@pytest.mark.spark
@pytest.mark.slow
def test_a_corrupt_file_is_one_line_and_exit_code_2(folder: Path) -> None:
    (folder / "gate").touch()
    file = folder / "dataset/examples/split=test/part-00001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    code, out, err = run(folder, sys.executable)
    assert code == 2
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {file}: it has ")
    assert errors[0].endswith(
        "; it is truncated, corrupt or not what preprocess wrote there: preprocess again"
    )
    assert err.splitlines()[-1] == errors[0]
    assert recorded(folder) == (2, None, None, errors[0].removeprefix("error: "))
    assert "Traceback" not in err
    assert "\tat " not in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score.partition=split=may"], "has no partition split=may: it has split=test"),
        (["score.batch=1"], "unknown key score.batch: allowed here are partition, source"),
        (["score.source=raw"], "source is raw, but no files are named: set score.raw.skeleton"),
        (["paths.model=nowhere"], "no model at nowhere: run esmm_spark/train.py"),
        (["features.tables.item.num_buckets=7"], "(they differ in tables item)"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2_without_spark(
    folder: Path, arguments: list[str], message: str
) -> None:
    code, out, err = run(folder, sys.executable, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    assert message in err
    assert not (folder / "scores").exists()


def test_help_answers_without_spark_or_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(JOB), "--help"], capture_output=True, text=True, check=True
    )
    assert "--force" in done.stdout
    for library in ("pyspark", "torch", "numpy", "pyarrow"):
        assert f"| {library}\n" not in done.stderr
