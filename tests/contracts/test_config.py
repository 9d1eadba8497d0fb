"""The config: what is accepted, and what a person reads when it is not."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import ConfigError
from tests.repository import ROOT

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


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("*.yaml")), ids=lambda path: path.name)
def test_a_config_that_was_stored_with_a_model_is_read_back_as_it_was(path: Path, tmp_path: Path) -> None:
    config = load_config(str(path))
    stored = tmp_path / "config.yaml"
    stored.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(str(stored)) == config


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
        ("model.objective=both", "model.objective = 'both': it is no objective: allowed are esmm, base"),
        ("logs.splits.train.skelton=x", "unknown key logs.splits.train.skelton: allowed here are skeleton"),
        ("batch_size", "override 'batch_size' is not of the form key=value"),
        ("paths.model.x=1", "paths.model is no section"),
        ("features.fields.1.min_count=2", "features.fields is a list of 1 items, from 0 on: it has no 1"),
        ("features.fields.-1.min_count=2", "features.fields is a list of 1 items, from 0 on: it has no -1"),
        (
            "features.fields.user.min_count=2",
            "features.fields is a list of 1 items, from 0 on: it has no user",
        ),
        ("features.fields.0.count=2", "unknown key features.fields.0.count: allowed here are name, level"),
        ("features.fields.0.min_count=0", "features.fields.0.min_count = 0: Input should be greater than or"),
        ("model.hidden_units.2=8", "model.hidden_units is a list of 2 items, from 0 on: it has no 2"),
        ("samples.num_files=true", "samples.num_files = True: Input should be a valid integer"),
        ("samples.num_files=2.5", "samples.num_files = 2.5: Input should be a valid integer"),
        ("model.hidden_units=[true]", "model.hidden_units.0 = True: Input should be a valid integer"),
        ("train.learning_rate=true", "train.learning_rate = True: Input should be a valid number"),
        ("train.learning_rate=inf", "train.learning_rate = inf: Input should be a finite number"),
        ("train.resume=1", "train.resume = 1: Input should be a valid boolean"),
        (
            "features.fields.0.multi='true'",
            "features.fields.0.multi = 'true': Input should be a valid boolean",
        ),
        ("paths.dataset=null", "paths.dataset = None: Input should be a valid string"),
        ("paths.dataset=", "paths.dataset = None: Input should be a valid string"),
        ("paths.dataset='a'b", "the value is not YAML"),
        ("paths.dataset=\udcff", "the value is not UTF-8"),
        (
            "paths.report=ftp://host/x",
            "paths.report = 'ftp://host/x': the scheme ftp is not supported: use a",
        ),
        ("evaluate.truth=ftp://host/x", "evaluate.truth = 'ftp://host/x': the scheme ftp is not supported"),
        ("logs.splits.train.skeleton=a[", "'a[': it is taken as a glob, in which [ is never closed"),
        ("samples={seed: 1, seed: 2}", "key seed stands twice in one section"),
        ("features.tables.user.num_buckets=10000000000000000000", "must fit into 64 bits"),
        ("features.tables.user.num_buckets=1e19", "features.tables.user.num_buckets = 1e+19: a whole number"),
        ("train.seed=-10000000000000000000", "train.seed = -10000000000000000000: a whole number must fit"),
        ("score.source=raw", "set score.raw.skeleton and score.raw.common_features"),
        (
            "score.table=a",
            "score.table has no effect where logs.format is aliccp: leave it out, or set score.raw",
        ),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(minimal: str, override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, [override])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("paths.dataset=1e5", "1e5"),
        ("paths.dataset=2026-11-23", "2026-11-23"),
        ("paths.dataset=on", "on"),
        ("paths.dataset= /data/a #1 ", "/data/a #1"),
        ("paths.dataset='null'", "null"),
        ("paths.dataset=file:///data/a%20b", "/data/a b"),
        ("paths.dataset=file:///data/bücher x", "/data/bücher x"),
        ("evaluate.truth=null", None),
        ("evaluate.baseline_name=2", "2"),
        ("features.fields.0.min_count=2", 2),
        ("features.fields.0.pooling=mean", "mean"),
        ("model.hidden_units.1=16", 16),
        ("samples.num_files=1e2", 100),
        ("samples.num_files='8'", 8),
        ("samples.row_group_mb=2", 2.0),
        ("train.learning_rate=1e-2", 0.01),
        ("train.resume=no", False),
        ("model.network_options.rate=1e-2", 0.01),
        ("model.network_options.name=text", "text"),
    ],
)
def test_a_value_is_taken_as_the_type_that_its_key_wants(minimal: str, override: str, value: object) -> None:
    found: Any = load_config(minimal, [override])
    for part in override.partition("=")[0].split("."):
        if isinstance(found, list):
            found = found[int(part)]
        else:
            found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert (found, type(found)) == (value, type(value))


def test_types_in_a_file_are_strict_but_for_numbers_that_yaml_reads_as_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = yaml.safe_dump(MINIMAL)
    path.write_text(f"{text}\ntrain: {{learning_rate: 1e-3, batch_size: 1e4}}\n")
    train = load_config(str(path)).train
    assert (train.learning_rate, train.batch_size) == (0.001, 10000)
    for section, expected in (
        ("train: {batch_size: true}", "train.batch_size = True: Input should be a valid integer"),
        ("train: {resume: 'yes'}", "train.resume = 'yes': Input should be a valid boolean"),
        ("evaluate: {truth: 5}", "evaluate.truth = 5: Input should be a valid string"),
        (
            "train: {seed: 1}\ndata: {}\ntrain: {seed: 2}",
            "is not YAML: key train stands twice in one section",
        ),
    ):
        path.write_text(f"{text}\n{section}\n")
        with pytest.raises(ConfigError) as caught:
            load_config(str(path))
        assert expected in str(caught.value)


def test_an_override_in_a_section_that_yaml_shares_changes_one_place(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in MINIMAL.items() if key != "logs"})
        + "logs: {splits: {train: &logs {skeleton: a, common_features: b}, test: *logs}}\n"
    )
    splits = load_config(str(path), ["logs.splits.test.skeleton=other"]).logs.splits
    assert (splits["train"].skeleton, splits["test"].skeleton) == ("a", "other")


@pytest.mark.parametrize(
    "override",
    [
        "paths.dataset=s3a://KEY:SECRET@bucket/x",
        "paths.model=s3://bucket/x?access_key=KEY&secret_key=SECRET",
        "evaluate.truth=hdfs://user:SECRET@name/x",
        "logs.splits.train.skeleton=s3a://KEY:SE/CRET@bucket/*.csv",
        "model.network_options={weights: ['https://user:SECRET@host/x']}",
        "train.batch_size=s3a://KEY:SECRET@bucket/x",
        "nowhere.at_all=s3a://KEY:SECRET@bucket/x",
        "model.network.x=s3a://KEY:SECRET@bucket/x",
        "paths.dataset='s3a://KEY:SECRET@bucket/x",
    ],
)
def test_a_secret_in_a_uri_is_refused_and_not_shown(minimal: str, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, [override])
    message = str(caught.value)
    assert "***" in message
    assert not any(secret in message for secret in ("KEY", "SECRET", "CRET@"))


def test_no_config_object_holds_a_secret_so_none_is_stored_with_a_dataset_or_a_model() -> None:
    content = {**MINIMAL, "paths": {**MINIMAL["paths"], "dataset": "s3a://KEY:SECRET@bucket/x"}}
    with pytest.raises(ValidationError, match=r"paths.dataset = s3a://\*\*\*@bucket/x carries credentials"):
        Config.model_validate(content)


def test_a_wrong_section_is_named_but_not_printed_whole(minimal: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, ["features.fields=[]", "model.network_options=" + "x" * 5000])
    assert len(str(caught.value)) < 600


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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train.embedding_eps=1e-50",
            r"train\.embedding_eps = 1e-50: it must lie between 1\.18e-38 and 3\.4",
        ),
        ("train.learning_rate=1e39", r"train\.learning_rate = 1e\+39: it must lie between"),
        ("train.embedding_learning_rate=1e-45", r"train\.embedding_learning_rate = 1e-45: it must lie"),
        ("model.embedding_init=4e38", r"model\.embedding_init = 4e\+38: it must lie"),
    ],
)
def test_numbers_that_float32_can_not_hold_are_refused(minimal: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(minimal, [override])
    with pytest.raises(ConfigError, match=r"embedding_eps = 100 / 2e-38 is infinite in float32"):
        load_config(minimal, ["train.embedding_learning_rate=100", "train.embedding_eps=2e-38"])
    assert load_config(minimal, ["model.embedding_init=0"]).model.embedding_init == 0


def test_a_runs_name_may_be_a_day_or_a_number(minimal: str) -> None:
    for text in ("2026-11-23", "20261123", "nightly.7"):
        assert load_config(minimal, [f"train.run_id={text}"]).train.run_id == text
    with pytest.raises(ConfigError, match=r"train\.run_id = 'a/b'"):
        load_config(minimal, ["train.run_id=a/b"])
