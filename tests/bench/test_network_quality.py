"""The networks' quality: which fields each is given, intervals, and the table."""

from pathlib import Path

import pytest

from bench.network_contenders import CONTENDERS, demo_content
from bench.network_quality import ORACLE, differences, table
from bench.verdicts import interval
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.model.esmm import build_esmm

METRICS = ("cvr_auc_entire_space", "cvr_auc_clicks", "ctcvr_auc", "ctr_auc")


def test_an_interval_is_students() -> None:
    # The 97.5% quantile of t with 2 degrees of freedom is 4.3027, of t with 1 it is 12.706.
    assert interval([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert interval([1.0, 3.0]) == pytest.approx(12.706, rel=1e-4)


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_is_a_config_whose_network_can_be_built(name: str, tmp_path: Path) -> None:
    config = Config.model_validate(demo_content(tmp_path / "raw", tmp_path, CONTENDERS[name]))
    model = build_esmm(config.model, config.features, resolve(config.model, [], DEFAULT_TASKS))
    assert sum(parameter.numel() for parameter in model.parameters()) > 1000
    histories = {field.name: field.table_name for field in config.features.sequence_fields}
    is_din = config.model.network == "din"
    assert histories == ({"109_14": "206", "110_14": "207", "127_14": "216"} if is_din else {})
    names = {field.name for field in config.features.fields}
    assert (names >= {"508", "509", "702", "853"}) == CONTENDERS[name].crosses


def values(*of_seeds: float) -> dict[str, list[float]]:
    return {key: list(of_seeds) for key in METRICS}


def test_the_table_has_means_intervals_and_rates_and_differences_are_of_the_same_seeds() -> None:
    found = {
        "mlp": values(0.80, 0.81, 0.82),
        "dcn": values(0.82, 0.83, 0.84),
        ORACLE: values(0.9, 0.9, 0.9),
    }
    rows = table(found, {"mlp": (0.002, 0.04), "dcn": (0.001, 0.02)}).splitlines()
    assert rows[2] == "| `mlp` |" + " 0.8100 ± 0.0248 |" * 4 + " 0.002, 0.04 |"
    assert rows[3].endswith("| 0.001, 0.02 |")
    assert rows[4] == "| oracle |" + " 0.9000 |" * 4 + "  |"
    (line,) = differences(found)
    assert line.startswith("- `dcn` - `mlp`: CVR AUC, entire space +0.0200 ± 0.0000, ")
