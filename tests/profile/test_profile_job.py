"""The command line of jobs/profile.py: mistakes are told before Spark starts."""

from pathlib import Path

import pytest

from esmm_spark.contracts.errors import ConfigError, InputError
from jobs.profile import main
from tests.repository import ROOT


@pytest.mark.parametrize("arguments", [[], ["--table", "log", "--config", "my.yaml"]])
def test_either_a_table_or_a_config_is_named(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="name either --table PATH or --config FILE"):
        main(arguments)


def test_overrides_are_of_a_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.epochs=2: key=value is for --config"):
        main(["--table", str(tmp_path), "train.epochs=2"])


def test_a_table_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no file or folder at {tmp_path}/nothing"):
        main(["--table", f"{tmp_path}/nothing"])


def test_a_config_of_another_format_can_not_be_profiled() -> None:
    with pytest.raises(ConfigError, match=r"demo.yaml has no logs.table: only tables can be profiled"):
        main(["--config", str(ROOT / "conf/demo.yaml")])
