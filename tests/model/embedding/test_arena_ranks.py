"""Real processes of horovodrun and torchrun: several ranks' arena is one rank's arena."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from esmm_spark.contracts.train_config import Backend
from tests.model.embedding.arena_ranks import NUM_BAGS, NUM_ROWS, NUM_STEPS, OPTIMIZERS, global_batch, share
from tests.repository import ROOT

SCRIPT = str(ROOT / "tests/model/embedding/arena_ranks.py")


def start(
    num_ranks: int, folder: Path, optimizer: str = "rowwise_adagrad", backend: Backend = "horovod"
) -> None:
    launcher = [sys.executable]
    if num_ranks > 1 and backend == "torch":
        launcher = ["torchrun", "--standalone", f"--nproc-per-node={num_ranks}"]
    elif num_ranks > 1:
        launcher = ["horovodrun", "-np", str(num_ranks), "-H", f"localhost:{num_ranks}"]
        launcher += ["--network-interfaces", "lo", sys.executable]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    done = subprocess.run(
        [*launcher, SCRIPT, str(folder), optimizer],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.horovod
@pytest.mark.parametrize(
    ("num_ranks", "optimizer", "backend"),
    [
        (2, "rowwise_adagrad", "horovod"),
        (3, "rowwise_adagrad", "horovod"),
        (3, "adam", "horovod"),
        (2, "sgd", "horovod"),
        (3, "rowwise_adagrad", "torch"),
    ],
)
def test_ranks_that_share_an_arena_train_the_same_rows_as_one_rank(
    num_ranks: int, optimizer: str, backend: Backend, tmp_path: Path
) -> None:
    start(1, tmp_path, optimizer)
    start(num_ranks, tmp_path, optimizer, backend)

    one = np.load(tmp_path / "rank-0-of-1.npz")
    several = [np.load(tmp_path / f"rank-{rank}-of-{num_ranks}.npz") for rank in range(num_ranks)]

    for step in range(NUM_STEPS):
        pooled = np.concatenate([rank[f"pooled{step}"] for rank in several])
        np.testing.assert_allclose(pooled, one[f"pooled{step}"], rtol=1e-5, atol=1e-6)
    for rank, found in enumerate(several):
        for name in ("rows", *OPTIMIZERS[optimizer].state_shapes(18)):
            np.testing.assert_allclose(found[name], one[name][rank::num_ranks], rtol=1e-5, atol=1e-6)
            assert np.abs(one[name]).max() > 0


@pytest.mark.horovod
def test_a_rank_sends_each_distinct_row_once_whatever_its_tokens(tmp_path: Path) -> None:
    start(2, tmp_path)

    sent_by_then = np.stack([np.load(tmp_path / f"rank-{rank}-of-2.npz")["sent"] for rank in range(2)])
    sent = np.diff(sent_by_then, prepend=0)

    for step in range(NUM_STEPS):
        _, rows, _ = global_batch(step)
        wanted = [{row for bag in share(step, rank, 2) for row in rows[bag]} for rank in range(2)]
        foreign = [sum(row % 2 != rank for row in rows) for rank, rows in enumerate(wanted)]
        # A rank asks with 4 bytes a row, answers with 18 float32, and sends 18 float32 of gradient.
        for rank in range(2):
            assert sent[rank, step] == 4 * foreign[rank] + 72 * foreign[1 - rank] + 72 * foreign[rank]


def test_the_batches_of_these_tests_have_what_can_go_wrong() -> None:
    batches = [global_batch(step)[1] for step in range(NUM_STEPS)]
    assert any(not bag for rows in batches for bag in rows)
    assert all(rows[0] == [NUM_ROWS - 1, 7, 7] and 7 in rows[-1] for rows in batches)
    assert [len(share(1, rank, 3)) for rank in range(3)] == [3, NUM_BAGS - 3, 0]
