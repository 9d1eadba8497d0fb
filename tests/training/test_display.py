"""What a person sees of a run on a terminal."""

import os
import re
import subprocess
import sys
import time

import pytest

from esmm_spark.runtime.progress import LineDisplay
from esmm_spark.training.progress import Progress, progress_for
from tests.repository import ROOT


def test_a_terminal_gets_a_bar_with_loss_speed_and_lines_that_stay() -> None:
    script = """
import logging
from esmm_spark.runtime.log import set_up_logging
from esmm_spark.training.progress import progress_for
set_up_logging()
progress = progress_for(True)
progress.start_epoch(0, 2, num_steps=4, first_step=1)
for step in range(1, 4):
    progress.step(step, loss=0.5, impressions_per_s=1234.5)
logging.getLogger("esmm_spark.x").warning("labels are off")
progress.message("epoch 1/2 validation: CTR AUC 0.7")
progress.close()
"""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=theirs, stderr=theirs, cwd=ROOT, env=environment
    )
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
    assert "4 of 4 steps, 0 s, loss 0.50000, 1,234 impressions/s" in last
    assert "epoch 1/2 validation: CTR AUC 0.7" in shown.decode()
    # A line of its own, above the bar.
    assert re.search(r"(^|\n|\x1b\[2K)warning: labels are off *\r?\n", shown.decode())


def test_a_log_gets_a_line_when_one_is_due_and_at_an_epochs_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress = Progress(LineDisplay("stdout"))
    progress.start_epoch(0, 2, num_steps=9, first_step=1)
    for step in range(1, 9):
        # The first one has kernels compiled.
        clock[0] += 24.0 if step == 1 else 4.0
        progress.step(step, loss=0.5, impressions_per_s=1234.5)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2: 2 of 9 steps, 24 s, loss 0.50000, 1,234 impressions/s",
        "epoch 1/2: 5 of 9 steps, about 16 s left, loss 0.50000, 1,234 impressions/s",
        "epoch 1/2: 8 of 9 steps, about 4 s left, loss 0.50000, 1,234 impressions/s",
        "epoch 1/2: 9 of 9 steps, 52 s, loss 0.50000, 1,234 impressions/s",
    ]


def test_ranks_after_the_first_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = progress_for(False)
    progress.start_epoch(0, 2, num_steps=1, first_step=0)
    progress.step(0, loss=0.5, impressions_per_s=1234.5)
    progress.message("validation")
    progress.close()
    assert capsys.readouterr().out == ""
