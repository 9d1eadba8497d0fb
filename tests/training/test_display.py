"""What a person sees of a run on a terminal."""

import os
import subprocess
import sys

from tests.repository import ROOT


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
