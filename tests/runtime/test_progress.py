"""What a log and a terminal show of long work."""

import io
import re
import time

import pytest

from esmm_spark.runtime.progress import Bars, LineDisplay, duration, how_far


def test_an_estimate_takes_what_is_left_for_as_long_as_what_is_done() -> None:
    assert how_far(0, 0, "tasks", 12) == "12 s"
    assert how_far(0, 40, "tasks", 12) == "0 of 40 tasks, 12 s"
    assert how_far(1000, 4000, "tasks", 60) == "1,000 of 4,000 tasks, about 3 min 0 s left"
    assert how_far(40, 40, "tasks", 61) == "40 of 40 tasks, 1 min 1 s"
    # Five of ten steps were done before a run was resumed.
    assert how_far(5, 10, "steps", 1, done_before=5) == "5 of 10 steps, 1 s"
    assert how_far(6, 10, "steps", 2, done_before=5) == "6 of 10 steps, about 8 s left"
    assert [duration(each) for each in (0.4, 59.6, 7260)] == ["0 s", "1 min 0 s", "2 h 1 min"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that `time.monotonic` says, as the one item."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_line_is_due_after_five_seconds_and_every_ten_and_the_end_is_told_of_what_was_shown(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = LineDisplay("stderr")
    for name, seconds in (("short", 4), ("long", 35)):
        lines.begin(name)
        for second in range(seconds):
            clock[0] += 1
            if lines.is_due():
                lines.show(second, 40, f"after {second + 1} s")
        lines.end("done")
    assert capsys.readouterr().err.splitlines() == [
        "long: after 5 s", "long: after 15 s", "long: after 25 s", "long: after 35 s", "long: done",
    ]  # fmt: skip


def test_a_terminal_shows_a_bar_from_the_first_second_on(clock: list[float]) -> None:
    screen = io.StringIO()
    bars = Bars(screen)
    bars.begin("short")
    clock[0] += 0.5
    assert not bars.is_due()
    bars.end("done in 1 s")
    bars.begin("group lines")
    clock[0] += 1.5
    assert bars.is_due()
    bars.show(1, 4, "1 of 4 tasks")
    assert not bars.is_due()
    bars.end("done in 6 s")
    bars.close()
    assert re.search(r"group lines .* done in 6 s", screen.getvalue())
    assert "short" not in screen.getvalue()
