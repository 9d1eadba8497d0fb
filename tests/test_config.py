"""The config: what is accepted, and what a person reads when it is not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from esmm_spark.config_file import load_config
from esmm_spark.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent

MINIMAL: dict[str, Any] = {
    "paths": {"dataset": "d", "model": "m", "scores": "s", "report": "r"},
    "logs": {"splits": {"train": {"skeleton": "a", "common_features": "b"}}},
    "features": {
        "tables": {"user": {"num_buckets": 10}},
        "fields": [{"name": "user", "level": "context"}],
    },
}


@pytest.fixture
def minimal(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return str(path)


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_in_conf_is_valid(path: Path) -> None:
    assert load_config(str(path)).features.num_rows > 0


def test_an_override_wins_over_the_file(minimal: str) -> None:
    config = load_config(
        minimal, ["train.batch_size=8192", "paths.model=s3a://bucket/m", "train.learning_rate=1e-2"]
    )
    assert (config.train.batch_size, config.paths.model, config.train.learning_rate) == (
        8192,
        "s3a://bucket/m",
        0.01,
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.batch_sise=1", "unknown key train.batch_sise: allowed here are batch_size, epochs"),
        ("train.batch_size=0", "train.batch_size = 0: Input should be greater than or equal to 1"),
        ("train.batch_size=many", "train.batch_size = 'many'"),
        ("logs.max_reject_fraction=2", "logs.max_reject_fraction = 2"),
        ("model.objective=both", "model.objective = 'both': Input should be 'esmm' or 'base'"),
        ("logs.splits.train.skelton=x", "unknown key logs.splits.train.skelton: allowed here are skeleton"),
        ("batch_size", "override 'batch_size' is not of the form key=value"),
        ("paths.model.x=1", "paths.model is no section"),
        ("score.source=raw", "set score.raw.skeleton and score.raw.common_features"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(minimal: str, override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, [override])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_file_without_sections_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config at .*/none\.yaml"):
        load_config(str(tmp_path / "none.yaml"))
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    with pytest.raises(ConfigError, match="must hold sections: paths, logs"):
        load_config(str(empty))
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(str(broken))


def test_a_config_that_is_not_utf_8_is_refused_with_the_byte_and_its_place(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("paths: {dataset: données}".encode("latin-1"))
    with pytest.raises(
        ConfigError, match=r"latin\.yaml is not UTF-8: byte 0xe9 at offset 21: save it as UTF-8"
    ):
        load_config(str(latin))


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in MINIMAL.items() if key != "paths"}))
    with pytest.raises(ConfigError, match="key paths is missing"):
        load_config(str(path))


def test_a_config_that_extends_another_changes_only_what_it_names(minimal: str, tmp_path: Path) -> None:
    child = tmp_path / "child.yaml"
    child.write_text("extends: config.yaml\npaths: {model: other}\ntrain: {batch_size: 7}\n")
    base, config = load_config(minimal), load_config(str(child), ["train.epochs=9"])
    assert (config.paths.model, config.paths.dataset) == ("other", base.paths.dataset)
    assert (config.train.batch_size, config.train.epochs) == (7, 9)
    assert config.features.digest == base.features.digest


def test_configs_that_extend_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(ConfigError, match=r"b\.yaml extends .*a\.yaml, which extends it in turn"):
        load_config(str(tmp_path / "a.yaml"))
