"""What a person sees of a run: the bar on a terminal, and whether there is something for TensorBoard."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from esmm_spark import storage
from esmm_spark.training import build
from tests.synthetic_examples import small_config
from tests.training.runs import ROOT


def test_a_terminal_gets_a_bar_with_loss_speed_and_lines_that_stay() -> None:
    script = """
from esmm_spark.training.progress import BarProgress, SilentProgress, progress_for
progress = progress_for(True)
assert isinstance(progress, BarProgress)
assert isinstance(progress_for(False), SilentProgress)
progress.start_epoch(0, 2, num_steps=4, first_step=1)
for step in range(1, 4):
    progress.step(step, loss=0.5, impressions_per_s=1234.5)
progress.message("epoch 1/2 validation: CTR AUC 0.7")
progress.close()
"""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=theirs, cwd=ROOT, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # Linux's way to say that the other end is closed
    finally:
        os.close(ours)
    assert process.wait(timeout=60) == 0
    last = shown.decode().rpartition("epoch 1/2 \x1b")[2]
    assert "4/4" in last
    assert "loss 0.50000" in last
    assert "1,234" in last
    assert "epoch 1/2 validation: CTR AUC 0.7" in shown.decode()


def test_tensorboard_logs_only_where_its_writer_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path, tensorboard=True)
    assert build._log_folder(config) == str(tmp_path / "model" / "tensorboard")
    assert build._log_folder(small_config(tmp_path, tensorboard=False)) is None
    far = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(storage, "filesystem_of", lambda uri: (far, "model"))
    assert build._log_folder(config) is None
