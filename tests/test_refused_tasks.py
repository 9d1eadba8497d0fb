"""Tasks and losses that can't be, as a user of the commands reads it: one line and exit code 2."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from esmm_spark.contracts.config import Config
from tests.commands.forked import run_script
from tests.funnel_examples import funnel_content, groups_of_three_tasks, write_funnel
from tests.scoring.random_model import write_model
from tests.synthetic_examples import config_content

COMMANDS = ("jobs/preprocess.py", "esmm_spark/train.py", "jobs/score.py", "jobs/evaluate.py")
TERMS = [{"task": "click"}, {"task": "conversion"}]
CYCLE = {"click": {"given": "conversion"}, "conversion": {"given": "click"}}
THREE = {"click": {}, "conversion": {"given": "click"}, "repurchase": {"given": "conversion"}}


def told(command: str, content: dict[str, Any], folder: Path) -> str:
    """Returns what a command that is refused writes to stderr, from its `error: ` on."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    finished = run_script(command, "--config", path)
    assert finished.returncode == 2, finished.stderr
    (line,) = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in finished.stderr
    return line


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"tasks": CYCLE}, "tasks are given each other in a circle: click given conversion given click"),
        (
            {"losses": [*TERMS, {"task": "buy"}]},
            "losses has a term of 'buy', which is no task: there are click, conversion",
        ),
        (
            {"losses": [*TERMS, {"task": "click", "space": "given"}]},
            "losses has a term of click with space: given, but it is given no task: leave it out",
        ),
        (
            {"tasks": THREE},
            "tasks are click, conversion given click, repurchase given conversion, but logs.format aliccp "
            "brings click, conversion given click, and nothing else",
        ),
        (
            {"samples": {"carry": {"price": "float"}}},
            "samples.carry names price, but logs.format aliccp has no columns beside its features",
        ),
    ],
)
def test_every_command_tells_what_is_wrong_with_the_config(
    sections: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    content = {**config_content(tmp_path), **sections}
    for command in COMMANDS:
        assert told(command, content, tmp_path).endswith(expected), command


@pytest.mark.slow
def test_a_dataset_of_other_tasks_than_the_config_is_not_trained_on(tmp_path: Path) -> None:
    write_funnel(tmp_path / "dataset", {"split=train": (groups_of_three_tasks(20, seed=0), [[20]])})
    line = told("esmm_spark/train.py", config_content(tmp_path), tmp_path)
    assert "the config has the tasks click, conversion given click; " in line
    assert "has click, conversion given click, repurchase given conversion: preprocess or train again" in line


@pytest.mark.slow
def test_a_model_of_other_tasks_than_the_dataset_does_not_score(tmp_path: Path) -> None:
    write_funnel(tmp_path / "dataset", {"split=test": (groups_of_three_tasks(20, seed=0), [[20]])})
    write_model(Config.model_validate(config_content(tmp_path)))
    line = told("jobs/score.py", funnel_content(tmp_path), tmp_path)
    assert (
        "the config has the tasks click, conversion given click, repurchase given conversion; model " in line
    )
    assert "has click, conversion given click: preprocess or train again with the same tasks" in line
