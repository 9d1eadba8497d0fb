"""Nested JSON, and a config that says how a table is read."""

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.profile.counts.opening import guess_table
from esmm_spark.profile.counts.roles import roles_of_config
from esmm_spark.profile.profiling import profile_table
from esmm_spark.samples.dataset import preprocess
from esmm_spark.tables.table_log import read_table

pytestmark = pytest.mark.spark


def write_requests(folder: Path) -> None:
    for day in ("20261123", "20261124", "20261125"):
        path = folder / f"dt={day}" / "part.json"
        path.parent.mkdir(parents=True)
        requests = [
            {
                "user": {"name": f"u{number % 7}", "tags": ["a", f"t{number % 3}"]},
                "shown": [
                    {"item": f"i{(number + place) % 9}", "click": (7 * number + 5 * place) % 11 < 4}
                    for place in range(1 + number % 4)
                ],
            }
            for number in range(40)
        ]
        path.write_text("".join(json.dumps(request) + "\n" for request in requests))


def test_nested_requests_are_taken_apart_and_read_by_the_written_config_as_by_the_profile(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_requests(tmp_path / "log")
    found = profile_table(spark, guess_table(str(tmp_path / "log")), None, str(tmp_path / "run/profile"))
    assert found.facts.lines == 3 * 10 * (1 + 2 + 3 + 4)
    assert found.table.explode == "shown"
    config = load_config(str(tmp_path / "run/profile/config.yaml"))
    names = ["user.name", "user.tags", "shown_position", "shown.item"]
    assert [field.name for field in config.features.fields] == names
    assert config.tasks.names == ("click",)
    manifest = preprocess(spark, config, read_table)
    assert {name: part.impressions for name, part in manifest.partitions.items()}.keys() >= {"split=test"}
    assert sum(part.impressions for part in manifest.partitions.values()) == found.facts.lines

    # The config that was written, changed by hand, says how to read the table, and which is the key.
    changed = load_config(str(tmp_path / "run/profile/config.yaml"), ["logs.table.context_key=user.name"])
    assert changed.logs.table is not None
    roles = roles_of_config(changed.logs.table, changed.tasks)
    again = profile_table(spark, changed.logs.table, roles, str(tmp_path / "run/profile"))
    levels = {guess.column.name: guess.level for guess in again.chosen}
    assert levels == {"user.name": "context", **dict.fromkeys(names[1:], "impression")}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"where": "staus = 1"}, r"logs\.table\.where: expr 'staus = 1' fails on .*staus"),
        ({"where": "user.name"}, r"logs\.table\.where = 'user\.name' is no condition"),
        ({"where": "rand() < 0.5"}, r"gives other values in each run"),
        ({"time_format": "nonsense"}, r"logs\.table\.time_format = 'nonsense' is no pattern of Spark's"),
        ({"explode": "user.name"}, r"logs\.table\.explode = 'user\.name' is string in .*must be a list"),
        ({"context_key": "user"}, r"logs\.table\.context_key = user is struct.* and must be one value"),
        ({"impression_id": "id"}, r"logs\.table\.impression_id = 'id' is no column"),
        ({"splits": {"column": "part"}}, r"logs\.table\.splits\.column = 'part' is no column"),
    ],
)
def test_what_a_config_names_wrongly_is_told_in_one_line(
    spark: SparkSession, tmp_path: Path, table: dict[str, Any], message: str
) -> None:
    write_requests(tmp_path / "log")
    content = {"path": str(tmp_path / "log"), "file_format": "json", "features": {"a": "user.name"}, **table}
    config = TableLog.model_validate(content)
    with pytest.raises(ConfigError, match=message) as raised:
        profile_table(spark, config, roles_of_config(config, DEFAULT_TASKS), str(tmp_path / "run/profile"))
    assert "\n" not in str(raised.value)
